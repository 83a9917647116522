package forward

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/flow/affinity"
	"github.com/vragent/vragent/fastpath/flow/store"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link/mem"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// microTeam is what one or two workers do at the same time, each on a core and a link
// of its own.
type microTeam struct {
	kind    string // local, service
	flows   int    // entries, of all workers
	astray  bool   // every packet comes to the worker that does not own its flow
	workers []*Worker
	links   []*mem.Replay
	start   time.Time

	rates  []float64 // packets a second that left, of all workers
	splits float64   // share of conversations whose entries two workers have
	drops  float64   // share of packets
}

const (
	microTeamFlows = 256_000
	microTeamSlice = 200 * time.Millisecond
	microTeamTable = 1 << 19 // entries of each worker
)

func microTeams(t *testing.T) []*microTeam {
	t.Helper()
	tables := microTables(t, 10, 100)
	var all []*microTeam
	for _, m := range []microTeam{{kind: "local"}, {kind: "service"}, {kind: "decap"}, {kind: "local", astray: true}} {
		for _, workers := range []int{1, 2} {
			if m.astray && workers == 1 {
				continue
			}
			team := m
			team.flows = microTeamFlows
			team.gather(t, tables, workers)
			all = append(all, &team)
		}
	}
	return all
}

// gather makes the workers and their flows.
func (m *microTeam) gather(t *testing.T, tables *table.Tables, workers int) {
	t.Helper()
	size := flow.Size{Four: microTeamTable, Six: 64}
	const chunks = 16 * turnSize // of each: what is handed over lies in rings
	memory := make(frame.Memory, workers*chunks*frame.ChunkSize)
	pools := frame.NewPools(chunks, workers)
	flows := make([]*flow.Table, workers)
	for i := range flows {
		mem1, _, err := store.Private().Memory("", flow.MemorySize(size))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Free(mem1) })
		if flows[i], err = flow.New(mem1, size, i, 42); err != nil {
			t.Fatal(err)
		}
	}
	s, err := NewShared(Options{Workers: workers, Memory: memory, Pools: pools, Flows: flows, Clients: affinity.New(), MaxVifFlows: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	frames := microFrames()
	for i := range workers {
		l := mem.NewReplay(memory, pools[i])
		l.Frames = frames
		m.links, m.workers = append(m.links, l), append(m.workers, s.Worker(i, l, l))
	}
	s.Publish(tables)
	m.start = time.Now().Add(-time.Hour)
	m.open(t)
}

// open has the conversations begin, and the links replay a packet of every entry.
func (m *microTeam) open(t *testing.T) {
	t.Helper()
	n := len(m.workers)
	lists := make([][]mem.Packet, n)
	for i := range m.flows / 2 {
		tuple := conversation(m.kind, i, 10, 100)
		at := packet.Owner(tuple.Hash(), n)
		lists[at] = append(lists[at], microPacket(&tuple))
	}
	for i, l := range m.links {
		l.Packets, l.Next = lists[i], 0
	}
	for range m.flows/2/n/turnSize + 16 {
		m.turns()
	}
	for _, l := range m.links {
		l.Stop = true
	}
	for range 64 {
		m.turns()
	}
	lists = make([][]mem.Packet, n)
	for i, w := range m.workers {
		to := i
		if m.astray {
			to = n - 1 - i
		}
		w.flows.Scan(w.flows.Slots(), func(slot uint32, _ *flow.Entry) {
			tuple := w.flows.Key(slot).Tuple
			if p := microPacket(&tuple); (p.Frame == microTunnelled) == (m.kind == "decap") {
				lists[to] = append(lists[to], p)
			}
		})
	}
	entries, splits := 0, uint64(0)
	for i, w := range m.workers {
		microShuffle(lists[i])
		m.links[i].Packets, m.links[i].Next, m.links[i].Stop = lists[i], 0, false
		entries += w.flows.Len()
		splits += w.count.Splits
	}
	if entries != m.flows {
		t.Fatalf("%s, %d workers: %d entries, want %d", m.kind, n, entries, m.flows)
	}
	m.splits = float64(splits) / float64(m.flows/2)
}

func (m *microTeam) turns() {
	for _, w := range m.workers {
		w.Turn(uint64(time.Since(m.start)))
	}
}

// measure lets all workers turn for a while.
func (m *microTeam) measure() {
	sent, lost := m.counts()
	var stop atomic.Bool
	var all sync.WaitGroup
	begin := time.Now()
	for _, w := range m.workers {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for !stop.Load() {
				w.Turn(uint64(time.Since(m.start)))
			}
		})
	}
	time.AfterFunc(microTeamSlice, func() { stop.Store(true) })
	all.Wait()
	took := time.Since(begin)
	now, gone := m.counts()
	m.rates = append(m.rates, float64(now-sent)/took.Seconds())
	m.drops = max(m.drops, float64(gone-lost)/float64(now-sent+gone-lost))
}

func (m *microTeam) counts() (sent, lost uint64) {
	for _, w := range m.workers {
		sent += w.count.TxPackets
		for _, n := range w.count.drops {
			lost += n
		}
	}
	return sent, lost
}

// microWorkers is the throughput of one and of two workers.
func microWorkers(t *testing.T) string {
	teams := microTeams(t)
	for range microRounds {
		for _, m := range teams {
			m.measure()
		}
	}
	var s strings.Builder
	fmt.Fprintf(&s, "\nOne and two workers, each on a core of its own, %d entries of established flows in all; the link's cost included.\n", microTeamFlows)
	fmt.Fprintf(&s, "%-8s %8s %10s %9s %8s %7s %9s\n", "packets", "workers", "come to", "split", "Mpps", "times", "lost")
	var one float64
	for _, m := range teams {
		rate := medianOf(m.rates)
		to := "their own"
		switch {
		case m.astray:
			to = "the other"
		case len(m.workers) == 1:
			one = rate
		}
		if m.astray {
			one = medianOf(teams[0].rates)
		}
		fmt.Fprintf(&s, "%-8s %8d %10s %8.0f%% %8.2f %7.2f %8.2f%%\n", m.kind, len(m.workers), to, 100*m.splits, rate/1e6, rate/one, 100*m.drops)
	}
	return s.String()
}
