/* The ring of package ring: one producer, one consumer, indices that only grow, each
 * end's private copy of the other's index. Every load and store is a step of its own;
 * Go's atomics are sequentially consistent, as Spin's steps are. The slots are plain
 * memory: that nobody reads one while it is written is what is proved.
 *
 *   fastpath/ring/model/check.sh     runs this, and the mutants, which must fail
 */
#define SLOTS 2
#define LAST  7  /* values 1 to LAST go through */
#define MOST  3  /* of PushAll, PopAll: more than there are slots */

byte head, tail;            /* shared: only what is stored there is seen */
byte slot[SLOTS];
bool writing[SLOTS], reading[SLOTS];

inline write(i, v) {
	assert(!reading[(i) % SLOTS]);
	writing[(i) % SLOTS] = true;
	slot[(i) % SLOTS] = v;
	writing[(i) % SLOTS] = false
}

inline read(i, v) {
	assert(!writing[(i) % SLOTS]);
	reading[(i) % SLOTS] = true;
	v = slot[(i) % SLOTS];
	reading[(i) % SLOTS] = false
}

active proctype producer() {
	byte next = 1, seenHead, mine, want, room, n, k;
	do
	:: next > LAST -> break
	:: else ->
		select(want : 1 .. MOST);        /* Push is PushAll of one */
		mine = tail;
		if
		:: SLOTS - (mine - seenHead) < want -> seenHead = head
		:: else
		fi;
		room = SLOTS - (mine - seenHead);
		assert(room <= SLOTS);
		n = (want < room -> want : room);
		n = (n < LAST + 1 - next -> n : LAST + 1 - next);
#ifdef MUTANT_EARLY
		tail = mine + n;
#endif
		k = 0;
		do
		:: k == n -> break
		:: else -> write(mine + k, next); next++; k++
		od;
#ifndef MUTANT_EARLY
		tail = mine + n
#endif
	od
}

active proctype consumer() {
	byte expect = 1, seenTail, mine, want, n, k, v;
	do
	:: expect > LAST -> break
	:: else ->
		select(want : 1 .. MOST);
		mine = head;
		if
		:: seenTail - mine < want -> seenTail = tail
		:: else
		fi;
		n = seenTail - mine;
		assert(n <= SLOTS);
		n = (want < n -> want : n);
#ifdef MUTANT_RELEASE
		head = mine + n;
#endif
		k = 0;
		do
		:: k == n -> break
		:: else -> read(mine + k, v); assert(v == expect); expect++; k++
		od;
#ifndef MUTANT_RELEASE
		head = mine + n
#endif
	od
}
