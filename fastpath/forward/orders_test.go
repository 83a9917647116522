package forward

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// TestEveryOrder takes two workers through every order in which the steps of their
// turns, the client, the server and evictions can follow each other, with the real
// code of the workers and the rings. A step is what one worker does between two
// looks at a ring: one message taken and acted upon, one packet of a stage. Smaller
// steps make no difference: a step touches a ring it reads before the one it writes, and
// the other worker sees of a step only what it wrote.
//
// In every order: each packet leaves by one door; no buffer is lost; a reply to what
// the server received is translated as its flow says, and never without an entry; when all is
// quiet, no entry waits for another, and every entry has its other direction; and whatever
// was lost to a full ring, the next request and its reply pass.
func TestEveryOrder(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			if s.long && os.Getenv("ORDERS") != "all" {
				t.Skip("takes seconds: make model")
			}
			x := &explorer{t: t, story: s, seen: map[uint64]struct{}{}, saw: map[string]int{}}
			x.explore()
			t.Logf("%d states, %d ends, %d moves made again; %v", len(x.seen), x.ends, x.again, x.saw)
			for _, what := range s.sees {
				if x.saw[what] == 0 {
					t.Errorf("in no order: %s", what)
				}
			}
		})
	}
}

// story is a small scenario.
type story struct {
	name   string
	ring   int // capacity of each
	script []event
	drops  string   // the only reasons for which a packet may be dropped
	sees   []string // what must happen in some order, or the story proves nothing
	full   int      // worker whose table is full, +1
	gaps   bool     // entries may lose their other direction for a while: messages are lost
	mixed  bool     // an evicted entry's key is free for the other flow, as whose reply a late one goes
	long   bool
}

// event is one line of the script. The script is followed in order; how far the workers
// are meanwhile, and which of them receives the packet, is open.
type event struct {
	kind  eventKind
	flags string
}

type eventKind uint8

const (
	toVIP   eventKind = iota + 1 // c sends to the VIP; the flow is split: forward at worker 0
	toPod                        // c sends from the same port to the backend itself
	evict0                       // worker 0 gives its entries' places to others
	evict1                       // worker 1 does
	elapse                       // time passes until all entries are due to go
	replace                      // the tables change: all entries are stale
)

func stories() []story {
	vip, vipMid, direct := event{toVIP, "S"}, event{toVIP, "A"}, event{toPod, "S"}
	ringFull := "handoff-ring-full"
	return []story{
		{name: "one flow", ring: 8, script: []event{vip, vipMid}, sees: []string{"split", "reply"}},
		{name: "one flow, rings of one", ring: 1, script: []event{vip, vipMid}, drops: ringFull, sees: []string{"split", "reply", ringFull}, gaps: true},
		{name: "rings of two", ring: 2, script: []event{vip, vipMid, vipMid}, drops: ringFull, sees: []string{"split", "reply"}, gaps: true, long: true},
		{name: "two flows with one reverse key", ring: 8, script: []event{vip, direct}, sees: []string{"split", "clash", "reply"}},
		{name: "two flows with one reverse key, the other way", ring: 8, script: []event{direct, vip}, sees: []string{"clash", "reply"}},
		{name: "clash, rings of one", ring: 1, script: []event{vip, direct}, drops: ringFull, sees: []string{"clash", ringFull}, gaps: true},
		{name: "clash, more packets", ring: 2, script: []event{vip, direct, vipMid}, drops: ringFull, sees: []string{"clash"}, gaps: true, long: true},
		{name: "no room for the reverse entry", ring: 8, script: []event{vip, vipMid}, full: 2, drops: "flow-table-full", sees: []string{"flow-table-full"}},
		{name: "forward entry evicted before it has the other", ring: 8, script: []event{vip, {evict0, ""}}, drops: "no-flow", sees: []string{"reply"}},
		{name: "forward entry evicted", ring: 8, script: []event{vip, {evict0, ""}, vipMid}, drops: "no-flow", sees: []string{"no-flow", "reply"}},
		{name: "reverse entry evicted", ring: 8, script: []event{vip, {evict1, ""}, vipMid}, drops: "no-flow", sees: []string{"no-flow", "reply"}},
		{name: "evicted, rings of one", ring: 1, script: []event{vip, {evict0, ""}, vipMid}, drops: ringFull + " no-flow", gaps: true},
		{name: "expiry", ring: 8, script: []event{vip, {elapse, ""}, vipMid}, drops: "no-flow", sees: []string{"reply"}, long: true},
		{name: "expiry, rings of one", ring: 1, script: []event{vip, {elapse, ""}, vipMid}, drops: ringFull + " no-flow", gaps: true, long: true},
		{name: "new tables", ring: 8, script: []event{vip, {replace, ""}, vipMid}, sees: []string{"reply"}},
		{name: "clash and eviction", ring: 8, script: []event{vip, direct, {evict1, ""}, vipMid}, drops: "no-flow", sees: []string{"clash"}, mixed: true, long: true},
	}
}

// explorer goes through all orders of one story, depth first. A state it has seen is
// not gone through again; to go back is to begin anew and make the same moves.
type explorer struct {
	t     *testing.T
	story story
	seen  map[uint64]struct{}
	saw   map[string]int
	ends  int
	again int // moves made once more
}

// crossing is a state on the way here, and which ways lead on from it.
type crossing struct {
	moves []move
	next  int
}

func (x *explorer) explore() {
	limit := time.Now().Add(4 * time.Minute)
	w := newWorld(x)
	path := []crossing{}
	for {
		key := w.key()
		if _, known := x.seen[key]; !known {
			x.seen[key] = struct{}{}
			moves := w.moves()
			if len(moves) == 0 {
				w.end()
				x.ends++
			}
			path = append(path, crossing{moves: moves, next: -1})
		} else {
			path = append(path, crossing{next: -1})
		}
		for len(path) > 0 && path[len(path)-1].next+1 >= len(path[len(path)-1].moves) {
			path = path[:len(path)-1]
		}
		if len(path) == 0 || x.t.Failed() {
			return
		}
		if time.Now().After(limit) {
			x.t.Fatalf("not done after %d states", len(x.seen))
		}
		last := &path[len(path)-1]
		last.next++
		if last.next > 0 || len(w.log) != len(path)-1 { // we were elsewhere
			w.reset()
			for i := range path[:len(path)-1] {
				w.make(path[i].moves[path[i].next])
				x.again++
			}
		}
		w.make(last.moves[last.next])
	}
}

// TestTurnIsOrders: the explorer takes the stages in the order in which Turn does.
func TestTurnIsOrders(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "worker.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "Turn" {
			continue
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if s, ok := call.Fun.(*ast.SelectorExpr); ok {
					got = append(got, s.Sel.Name)
				}
			}
			return true
		})
	}
	// offloads does nothing there: no world has a kernel that forwards.
	if want := "begin receive drain classify own track emit flush age offloads end"; strings.Join(got, " ") != want {
		t.Errorf("Turn is %v; the explorer (world_test.go) knows %s", got, want)
	}
}

// network of the stories: one node, the client and one backend.
func storyTables() *table.Tables {
	b := table.NewBuilder()
	for _, d := range []table.Delta{{Upsert: network("n1", "192.0.2.1", "192.0.2.2", "10.0.0.1", "10.0.1.0/24", "2001:db8:1::/64")}, onlyB1("")} {
		if err := b.Apply(&d); err != nil {
			panic(err)
		}
	}
	return b.Tables()
}

// onlyB1 makes b1 the service's only backend; another name is another generation.
func onlyB1(name string) table.Delta {
	var up table.State
	addService(&up, "n1", "b1")
	for i := range up.NextHops {
		for j := range up.NextHops[i].Members {
			up.NextHops[i].Members[j].Name += name
		}
	}
	return table.Delta{Upsert: up}
}

var (
	firstTables = storyTables()
	storyPort   = splitFrom0()
)

// splitFrom0 is a port from which the flow to the VIP has its forward entry at worker
// 0 and its reverse entry at worker 1, which therefore owns that of the direct flow, too.
func splitFrom0() uint16 {
	for port := uint16(1024); ; port++ {
		there := packet.Tuple{Src: addr("10.0.0.2"), Dst: addr(vip), Sport: port, Dport: 8888, Proto: packet.ProtoTCP}
		back := packet.Tuple{Src: addr("10.0.0.2"), Dst: addr("10.0.0.3"), Sport: port, Dport: 80, Proto: packet.ProtoTCP}
		if packet.Owner(there.Hash(), 2) == 0 && packet.Owner(back.Hash(), 2) == 1 {
			return port
		}
	}
}

func (e event) String() string {
	return map[eventKind]string{toVIP: "c sends to the VIP", toPod: "c sends to b1", evict0: "worker 0 evicts", evict1: "worker 1 evicts", elapse: "time passes", replace: "tables change"}[e.kind] + fmt.Sprint(" ", e.flags)
}
