/* Sleep and wake of package forward: two workers that send each other messages over
 * rings, the kernel that brings frames, and a control goroutine that calls (Worker.Do).
 * Nobody's sleep ends by itself here, as it does in the program after a nap: a worker
 * that sleeps while there is work for it would sleep for ever, and Spin reports the
 * end state.
 *
 *   fastpath/ring/model/check.sh     runs this, and the mutants, which must fail
 */
#define FRAMES 1  /* that the kernel brings each worker */
#define CALLS  1
#define ALL    (4 * FRAMES + 2 * CALLS)  /* each frame is received, and handed over once */

byte ring[2];     /* messages waiting for each worker */
byte rx[2];       /* frames waiting */
byte calls[2];
bool sleeping[2];
byte event[2];    /* eventfd: not 0 ends the next wait */
byte handled;     /* frames, messages and calls */

inline wake(to) {               /* Worker.Wake */
	if
	:: sleeping[to] -> event[to] = 1
	:: else
	fi
}

proctype worker(byte me) {
	byte got;
	bool tell, work;
	do
	:: tell = false;                             /* one turn */
		got = rx[me];                        /* receive reads the ring's index, */
		d_step { rx[me] = rx[me] - got; handled = handled + got };
		tell = (got > 0);                    /* a frame of another's flow */
		do                                   /* then drain */
		:: atomic { ring[me] > 0 -> ring[me]--; handled++ }
		:: ring[me] == 0 -> break
		od;
		do                                   /* runCalls */
		:: atomic { calls[me] > 0 -> calls[me]--; handled++ }
		:: calls[me] == 0 -> break
		od;
		if
		:: tell -> ring[1 - me] = ring[1 - me] + got; wake(1 - me)
		:: else
		fi;
		if
		:: true                              /* busy still */
		:: true ->                           /* idle long enough */
#ifdef MUTANT_LATE
			work = ring[me] > 0;
			work = work || calls[me] > 0;
			sleeping[me] = true;
#else
			sleeping[me] = true;
			work = ring[me] > 0;
#ifndef MUTANT_CALLS
			work = work || calls[me] > 0;
#endif
#endif
			if
			:: work
			:: else ->
				(event[me] > 0 || rx[me] > 0 || handled == ALL);   /* poll(2) */
				event[me] = 0
			fi;
			sleeping[me] = false
		fi
	:: handled == ALL -> break
	od
}

proctype kernel(byte to) {
	byte n;
	do
	:: n == FRAMES -> break
	:: else -> rx[to]++; n++
	od
}

proctype control(byte to) {
	byte n;
	do
	:: n == CALLS -> break
	:: else -> calls[to]++; wake(to); n++
	od
}

init {
	atomic {
		run worker(0); run worker(1);
		run kernel(0); run kernel(1);
		run control(0); run control(1)
	}
}
