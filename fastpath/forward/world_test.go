package forward

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/flow/affinity"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/pace"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/mem"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/ring"
	"github.com/vragent/vragent/fastpath/table"
)

// world is one node with two workers in the middle of a story.
type world struct {
	x      *explorer
	shared *Shared
	at     [2]stepper
	memory frame.Memory
	pools  []*frame.Pool
	now    uint64

	told    int   // lines of the script that happened
	replies []int // requests the server has received and not answered
	got     map[int]int
	asked   map[int]eventKind
	log     []move
}

// stepper is one worker and how far it is in its turn.
type stepper struct {
	*Worker
	link    *mem.Link
	waiting []int // packets on the link
	stage   phase
	i       int
	due     bool // time has passed: a turn has something to do
	ages    bool // this turn does
}

type phase uint8

const (
	between phase = iota // turns
	draining
	owning
	tracking
	emitting
)

// move is a worker's step (to: its number), or something that happens, if to a worker
// then to that one.
type move struct {
	what moveKind
	to   int
}

type moveKind uint8

const (
	stepMove moveKind = iota
	tellMove
	replyMove
)

const storyChunks = 16

func newWorld(x *explorer) *world {
	w := &world{x: x, now: 1e12}
	w.memory = make(frame.Memory, 2*storyChunks*frame.ChunkSize)
	tables := make([]*flow.Table, 2)
	for i := range tables {
		size := flow.Size{Four: 16, Six: 1}
		t, err := flow.New(make([]byte, flow.MemorySize(size)), size, i, 1)
		if err != nil {
			x.t.Fatal(err)
		}
		tables[i] = t
	}
	s, err := NewShared(Options{Workers: 2, Memory: w.memory, Pools: frame.NewPools(storyChunks, 2), Flows: tables, Clients: affinity.New(), MaxVifFlows: 100})
	if err != nil {
		x.t.Fatal(err)
	}
	w.shared = s
	for i := range w.at {
		w.at[i].Worker = s.Worker(i, nil, nil)
	}
	w.reset()
	return w
}

// reset begins anew in the memory of a world before: making it takes a hundred times
// as long as a move.
func (w *world) reset() {
	w.pools = frame.NewPools(storyChunks, 2)
	w.shared.tables.Store(firstTables)
	w.shared.rings[0][1], w.shared.rings[1][0] = ring.New[message](w.x.story.ring), ring.New[message](w.x.story.ring)
	w.now, w.told, w.replies, w.log = 1e12, 0, nil, w.log[:0]
	w.got, w.asked = map[int]int{}, map[int]eventKind{}
	for i := range w.at {
		l := mem.New(w.memory, w.pools[i])
		s := stepper{Worker: w.at[i].Worker, link: l}
		s.doors[0].link, s.pool = l, w.pools[i]
		s.flows.Scan(s.flows.Slots(), func(slot uint32, _ *flow.Entry) { s.flows.Delete(slot) })
		s.aging.Pace, s.n, s.lastReverse, s.views = pace.Pace{}, 0, 0, 1
		s.view.Tables, s.count, s.quota = firstTables, counters{}, nil
		s.count.init()
		s.grow()
		w.at[i] = s
	}
	if i := w.x.story.full - 1; i >= 0 {
		(&node{workers: []*Worker{w.at[i].Worker}, bed: &bed{t: w.x.t, now: w.now}}).full()
	}
}

// moves lists what can happen next.
func (w *world) moves() (m []move) {
	for i := range w.at {
		s := &w.at[i]
		if s.stage != between || len(s.waiting) > 0 || s.due || w.shared.rings[1-i][i].Len() > 0 {
			m = append(m, move{stepMove, i})
		}
	}
	for to := range w.at {
		if w.told < len(w.x.story.script) {
			if k := w.x.story.script[w.told].kind; to == 0 || k == toVIP || k == toPod {
				if w.possible(k) {
					m = append(m, move{tellMove, to})
				}
			}
		}
		if len(w.replies) > 0 {
			m = append(m, move{replyMove, to})
		}
	}
	return m
}

// possible: a worker evicts between two packets of its own, not in the middle of one.
func (w *world) possible(k eventKind) bool {
	return k != evict0 && k != evict1 || w.at[k-evict0].stage == between
}

func (w *world) make(m move) {
	w.log = append(w.log, m)
	switch m.what {
	case stepMove:
		w.step(m.to)
	case tellMove:
		w.tell(w.x.story.script[w.told], m.to)
		w.told++
	case replyMove:
		id := w.replies[0]
		w.replies = w.replies[1:]
		w.answer(id, m.to)
	}
}

// step takes one worker one step further, in the order of Turn.
func (w *world) step(i int) {
	s := &w.at[i]
	switch s.stage {
	case between:
		s.begin(w.now)
		s.receive()
		s.waiting, s.due, s.ages = nil, false, s.due
		s.stage = draining
	case draining:
		if s.drainOne() {
			return
		}
		s.classify()
		s.stage, s.i = owning, 0
		s.skip()
	case owning:
		s.only(s.own)
	case tracking:
		s.only(s.track)
	case emitting:
		w.finish(s)
		return
	}
	if s.stage == emitting && !s.ages {
		w.finish(s) // touches no ring
	}
}

func (w *world) finish(s *stepper) {
	s.emit()
	s.flush()
	s.age()
	s.end()
	s.stage = between
	w.deliver(s)
}

// drainOne is drain for the one message that is there.
func (s *stepper) drainOne() bool {
	r := s.s.rings[1-s.id][s.id]
	if s.n == len(s.batch) || !r.Pop(&s.in) {
		return false
	}
	s.act(1-s.id, &s.in)
	return true
}

// only has a stage done for one packet of the batch.
func (s *stepper) only(do func()) {
	var live [storyChunks * 2]bool
	for j := range s.n {
		live[j] = s.batch[j].live
		if j != s.i {
			s.batch[j].live = false
		}
	}
	do()
	for j := range s.n {
		if j != s.i {
			s.batch[j].live = live[j]
		}
	}
	s.i++
	s.skip()
}

// skip goes on to the next packet that has still to pass a stage with rings.
func (s *stepper) skip() {
	for ; s.stage == owning || s.stage == tracking; s.stage, s.i = s.stage+1, 0 {
		for ; s.i < s.n; s.i++ {
			if s.batch[s.i].live && !s.batch[s.i].settled {
				return
			}
		}
	}
}

// Packets are told apart by the length of their payload: request n is requestSize+n long, its
// reply replySize+n.
const requestSize, replySize = 10, 40

func (w *world) tell(e event, to int) {
	c := build.IPv4("10.0.0.2", vip)
	switch e.kind {
	case toVIP:
		w.inject(to, 10, c.TCP(storyPort, 8888, e.flags), requestSize+w.told)
	case toPod:
		w.inject(to, 10, build.IPv4("10.0.0.2", "10.0.0.3").TCP(storyPort, 80, e.flags), requestSize+w.told)
	case evict0, evict1:
		(&node{workers: []*Worker{w.at[e.kind-evict0].Worker}}).evict(0)
		w.at[e.kind-evict0].due = true // its turn ends by telling the other
		return
	case elapse:
		w.now += uint64(entry.Second) << TickShift * 40
		w.at[0].due, w.at[1].due = true, true
		return
	case replace:
		w.shared.Publish(nextTables)
		return
	}
	w.asked[w.told] = e.kind
}

var nextTables = func() *table.Tables {
	b := table.NewBuilder()
	for _, d := range []table.Delta{{Upsert: network("n1", "192.0.2.1", "192.0.2.2", "10.0.0.1", "10.0.1.0/24", "2001:db8:1::/64")}, onlyB1(""), onlyB1("again")} {
		if err := b.Apply(&d); err != nil {
			panic(err)
		}
	}
	return b.Tables()
}()

func (w *world) answer(id, to int) {
	w.inject(to, 11, build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, uint16(w.got[id]), "SA"), replySize+id)
}

func (w *world) inject(to int, vif uint32, p *build.Packet, size int) {
	f := build.Eth(p.Payload(size).Bytes(), link.VifMAC(vif), mac)
	w.at[to].link.Inject(f)
	w.at[to].waiting = append(w.at[to].waiting, len(f))
}

// deliver looks at what a worker has sent.
func (w *world) deliver(s *stepper) {
	for _, f := range s.link.Sent() {
		var in packet.Info
		ip := f[packet.EthernetLen:]
		packet.ParseIP(ip, 0, len(ip), &in)
		id, _ := link.VifOf(f[6:])
		size := in.Len - packet.IPv4Len - packet.TCPLen
		if err := build.Verify(ip); err != nil {
			w.fail("%v", err)
		}
		switch {
		case id == 11 && size < replySize:
			w.request(size-requestSize, &in.Tuple)
		case id == 10 && size >= replySize:
			w.reply(size-replySize, &in.Tuple)
		default:
			w.fail("vif %d received %s", id, in.Tuple)
		}
	}
}

func (w *world) request(n int, t *packet.Tuple) {
	if w.got[n] != 0 {
		w.fail("request %d is delivered twice", n)
	}
	if t.Dst != addr("10.0.0.3") || t.Dport != 80 || t.Src != addr("10.0.0.2") {
		w.fail("request %d is delivered as %s", n, t)
	}
	w.got[n] = int(t.Sport)
	w.replies = append(w.replies, n)
	w.x.saw["request"]++
}

func (w *world) reply(n int, t *packet.Tuple) {
	if w.got[replySize+n] != 0 {
		w.fail("reply %d is delivered twice", n)
	}
	w.got[replySize+n] = 1
	src, sport := addr(vip), uint16(8888)
	if w.asked[n] == toPod {
		src, sport = addr("10.0.0.3"), 80
	}
	if !w.x.story.mixed && (t.Src != src || t.Sport != sport) || t.Dst != addr("10.0.0.2") || t.Dport != storyPort {
		w.fail("the reply to request %d arrives as %s", n, t)
	}
	w.x.saw["reply"]++
}

// end is a state in which nothing moves any more.
func (w *world) end() {
	w.account()
	w.pairs()
	if w.x.story.full == 0 {
		w.heals()
	}
}

// account: every packet has left by one door, for a reason that may be; every buffer
// is home.
func (w *world) account() {
	var in, out uint64
	for i := range w.at {
		c := &w.at[i].count
		if w.pools[i].Len() != storyChunks {
			w.fail("worker %d: %d of %d buffers are free", i, w.pools[i].Len(), storyChunks)
		}
		in += c.RxPackets + c.Answers
		out += c.TxPackets
		if c.Splits > 0 {
			w.x.saw["split"]++
		}
		for r, n := range c.drops {
			out += n
			if name := reason.Reason(r).String(); n > 0 {
				w.x.saw[name]++
				if !strings.Contains(w.x.story.drops, name) {
					w.fail("%d packets dropped: %s", n, name)
				}
			}
		}
	}
	if in != out {
		w.fail("%d packets came in, %d left", in, out)
	}
}

// pairs: nobody waits, and who has another direction has it both ways.
func (w *world) pairs() {
	for i := range w.at {
		w.at[i].flows.Scan(w.at[i].flows.Slots(), func(slot uint32, e *flow.Entry) {
			if e.Flags&flow.FlagForward != 0 && e.NAT&flow.NATSport != 0 {
				w.x.saw["clash"]++
			}
			c := w.at[i].flows.Record(slot)
			if w.x.story.gaps || c.Dst == addr("10.9.9.9") { // full's
				return
			}
			if e.Flags&flow.FlagPending != 0 {
				w.fail("worker %d: %s waits for ever", i, c.Key().Tuple)
				return
			}
			owner, at := flow.Split(c.Reverse)
			if c.Reverse == flow.NoReverse {
				w.fail("worker %d: %s has no other direction", i, c.Key().Tuple)
				return
			}
			if w.at[owner].flows.Linked(at, flow.Index(i, slot)) == nil {
				w.fail("worker %d: the other direction of %s is gone", i, c.Key().Tuple)
			} else if other := w.at[owner].flows.Record(at); other.Holder != c.Holder || c.Flags&flow.FlagForward != 0 && c.Holder != c.KeyNH {
				w.fail("worker %d: %s counts for next hop %d, its other direction for %d", i, c.Key().Tuple, c.Holder, other.Holder)
			}
		})
	}
}

// heals: the next requests of all flows and their replies pass. A request that finds
// an entry whose other direction was lost takes the place of that entry with the one
// after it.
func (w *world) heals() {
	kinds := map[eventKind]bool{}
	for _, e := range w.x.story.script {
		kinds[e.kind] = true
	}
	before := w.x.story
	defer func() { w.x.story = before }()
	w.x.story.drops += " no-flow handoff-ring-full"
	id := len(w.x.story.script)
	for _, k := range []eventKind{toVIP, toPod} {
		if !kinds[k] {
			continue
		}
		ok := false
		for range 3 { // the next aging heals, at the latest
			w.told = id
			w.tell(event{k, "A"}, id%2)
			w.quiet()
			if w.got[replySize+id] != 0 {
				ok = true
			}
			if id++; ok {
				break
			}
			w.now += uint64(pace.Whole) << TickShift
			w.at[0].due, w.at[1].due = true, true
			w.quiet()
		}
		if !ok {
			w.fail("flow %v does not work any more", event{k, ""})
		}
	}
}

// quiet runs everything to its end, in one order.
func (w *world) quiet() {
	w.told = len(w.x.story.script)
	for range 1000 {
		m := w.moves()
		if len(m) == 0 {
			return
		}
		w.make(m[0])
	}
	w.fail("it does not end")
}

func (w *world) fail(format string, args ...any) {
	w.x.t.Errorf(format, args...)
	told, replied := 0, 0
	for _, m := range w.log {
		switch m.what {
		case stepMove:
			w.x.t.Logf("worker %d steps", m.to)
		case tellMove:
			if told < len(w.x.story.script) {
				w.x.t.Logf("%v → worker %d", w.x.story.script[told], m.to)
			}
			told++
		case replyMove:
			w.x.t.Logf("reply %d → worker %d", replied, m.to)
			replied++
		}
	}
	w.x.t.FailNow()
}

var orderSeed = maphash.MakeSeed()

// key is the hash of all that decides what can follow. Buffers have no identity in it,
// packets have.
func (w *world) key() uint64 {
	var h maphash.Hash
	h.SetSeed(orderSeed)
	put := func(v ...int) { maphash.WriteComparable(&h, [8]int(append(v, make([]int, 8-len(v))...))) }
	put(w.told, len(w.replies), int(w.now>>20))
	for _, id := range w.replies {
		put(id, w.got[id])
	}
	ids := make([]int, 0, len(w.got))
	for id := range w.got {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		put(id, w.got[id])
	}
	for i := range w.at {
		w.at[i].key(&h, put)
		w.keyRing(&h, put, i)
	}
	return h.Sum64()
}

func (s *stepper) key(h *maphash.Hash, put func(...int)) {
	put(int(s.stage), s.i, len(s.waiting), b2i(s.due)+2*b2i(s.ages), int(s.view.Now>>20), int(s.aging.Last), int(*s.quota.Of(nhPods, false)), int(*s.quota.Of(nhPods+1, false)))
	put(b2i(s.view.Tables == firstTables), int(s.views))
	for _, n := range s.waiting {
		put(n)
	}
	if s.stage != between {
		for j := range s.n {
			p := &s.batch[j]
			to, nh := p.to, 0
			if p.nh != nil {
				nh = int(p.nh.ID)
			}
			put(p.total, b2i(p.live), b2i(p.settled), b2i(p.handed), nh, int(p.push), b2i(p.rewrite), int(p.clashes))
			maphash.WriteComparable(h, to)
		}
	}
	maphash.WriteComparable(h, s.count.drops)
	s.flows.Scan(s.flows.Slots(), func(slot uint32, e *flow.Entry) {
		put(int(slot), int(e.View))
		r := s.flows.Record(slot)
		r.Life = 0 // is for the offloader alone, and never comes to an end
		maphash.WriteComparable(h, r)
	})
}

// keyRing takes a ring's messages out and puts them back.
func (w *world) keyRing(h *maphash.Hash, put func(...int), from int) {
	r := w.shared.rings[from][1-from]
	put(r.Len())
	for range r.Len() {
		var m message
		r.Pop(&m)
		put(int(m.kind), m.total, int(m.clashes))
		if m.kind != msgFrame {
			put(int(m.index), int(m.peer), int(m.tcp), int(m.ticks), int(m.nh), int(m.push))
			maphash.WriteComparable(h, m.entry)
		}
		r.Push(m)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m move) String() string { return fmt.Sprintf("%d>%d", m.what, m.to) }
