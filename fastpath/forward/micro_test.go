package forward

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link/mem"
	"github.com/vragent/vragent/fastpath/table"
)

var microOut = flag.String("micro", "", "measure the user plane alone (make bench-micro) and write the table to this file; -: only count instructions, and print them")

var microRows = flag.String("micro.rows", "", "measure only rows whose name matches this expression: service-16000-10-100, local-setup-10-100")

// microCase is a row: what the packets are, and how much there is of what.
type microCase struct {
	kind             string // local, local6, service, encap, decap
	entries          int    // in the flow table: two of each conversation
	services, routes int
	setup            bool // new flows instead of established ones

	bed     *microBed
	tables  *table.Tables
	opening []mem.Packet
	rounds  []microRound
}

// microRound is one measurement of a row, in ns a packet.
type microRound struct {
	link, total float64
	stages      [len(microStages)]float64
}

// microStages are the stages of Turn, in order.
var microStages = [...]struct {
	name string
	run  func(*Worker)
}{
	{"receive", func(w *Worker) { w.receive() }},
	{"classify", (*Worker).classify},
	{"own", (*Worker).own},
	{"track", (*Worker).track},
	{"emit", (*Worker).emit},
	{"rest", func(w *Worker) { w.flush(); w.age(); w.offloads(); w.end() }},
}

const (
	microRounds = 7
	microSlice  = 60 * time.Millisecond // of one row in one round
	microTable  = 262_144               // entries: the default
	turnSize    = batches * batchSize   // packets of a turn
	microSetups = 100_000               // conversations a set-up row begins in one round
)

func microCases() []*microCase {
	var all []*microCase
	for _, kind := range []string{"local", "service", "encap", "decap", "local6"} {
		for _, entries := range []int{16_000, 256_000, 2_000_000} {
			all = append(all, &microCase{kind: kind, entries: entries, services: 10, routes: 100})
		}
	}
	for _, n := range []int{1000, 10_000} {
		all = append(all, &microCase{kind: "service", entries: 16_000, services: n, routes: 100})
	}
	for _, n := range []int{100_000, 1_000_000} {
		all = append(all, &microCase{kind: "encap", entries: 16_000, services: 10, routes: n})
	}
	all = append(all, &microCase{kind: "local", services: 10, routes: 100, setup: true})
	for _, n := range []int{10, 1000, 10_000} {
		all = append(all, &microCase{kind: "service", services: n, routes: 100, setup: true})
	}
	for _, n := range []int{100, 100_000, 1_000_000} {
		all = append(all, &microCase{kind: "encap", services: 10, routes: n, setup: true})
	}
	want := regexp.MustCompile(*microRows)
	return slices.DeleteFunc(all, func(c *microCase) bool { return !want.MatchString(c.name()) })
}

func (c *microCase) name() string {
	size := fmt.Sprint(c.entries)
	if c.setup {
		size = "setup"
	}
	return fmt.Sprintf("%s-%s-%d-%d", c.kind, size, c.services, c.routes)
}

// TestMicro measures the worker's loop on in-memory links: what its stages cost
// without a kernel. Rows take turns, so that what else the machine does hits all.
func TestMicro(t *testing.T) {
	if *microOut == "" {
		t.Skip("make bench-micro")
	}
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	cases := microCases()
	if *microOut == "-" {
		fmt.Print(microInstructions(cases))
		return
	}
	networks := map[[2]int]*table.Tables{}
	for _, c := range cases {
		at := [2]int{c.services, c.routes}
		if networks[at] == nil {
			networks[at] = microTables(t, c.services, c.routes)
		}
		c.tables = networks[at]
		c.prepare(t)
	}
	clockCost = microClock()
	for range microRounds {
		for _, c := range cases {
			c.measure(t)
		}
	}
	text := microHead() + microEstablished(cases) + microSetUps(cases) + microInstructions(cases)
	if *microRows == "" {
		text += microWorkers(t) + microBad(t) + microTablesAlone()
	}
	fmt.Print(text)
	if err := os.WriteFile(*microOut, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (c *microCase) prepare(t *testing.T) {
	c.bed = newMicroBed(t, c.tables, max(microTable, c.entries*100/99), c.kind == "local6")
	if c.setup {
		c.opening = microOpening(c, microSetups, microSyn)
		return
	}
	c.bed.establish(t, c)
	if n := testing.AllocsPerRun(10, func() { c.bed.turn() }); n != 0 {
		t.Errorf("%s: %v allocations a turn", c.kind, n)
	}
}

func (c *microCase) measure(t *testing.T) {
	if c.setup {
		c.measureSetup(t)
		return
	}
	b := c.bed
	r := microRound{link: microLink(b), total: microTurns(b, microSlice)}
	var stages [len(microStages)]turns
	for start := time.Now(); time.Since(start) < microSlice; {
		b.stages(&stages)
	}
	for i := range stages {
		r.stages[i] = stages[i].median()
	}
	r.stages[0] -= r.link // what is left is ours
	b.whole(t, c)
	c.rounds = append(c.rounds, r)
}

// stages is a turn with a look at the clock between the stages.
func (b *microBed) stages(all *[len(microStages)]turns) {
	b.now += 20_000
	b.w.begin(b.now)
	var took [len(microStages)]time.Duration
	for n := range batches {
		before := time.Now()
		for i := range microStages {
			if i == len(microStages)-1 && n < batches-1 {
				break
			}
			microStages[i].run(b.w)
			after := time.Now()
			took[i] += after.Sub(before) - clockCost
			before = after
		}
	}
	for i := range took {
		all[i].add(took[i])
	}
}

// measureSetup begins conversations in an empty table.
func (c *microCase) measureSetup(t *testing.T) {
	c.bed.fresh(t, c.tables)
	c.bed.replay(c.opening)
	for range 4 { // the memory of a new worker is in place
		c.bed.turn()
	}
	link := microLink(c.bed)
	c.bed.link.Next = 4 * turnSize
	var all turns
	for range microSetups/turnSize - 4 {
		start := time.Now()
		c.bed.turn()
		all.add(time.Since(start))
	}
	c.bed.whole(t, c)
	if got, want := c.bed.w.flows.Len(), 2*(len(all)+4)*turnSize; got != want {
		t.Fatalf("%s: %d flows, want %d", c.kind, got, want)
	}
	c.rounds = append(c.rounds, microRound{link: link, total: all.median()})
}

// microTurns returns what a packet costs in whole turns, the link included.
func microTurns(b *microBed, d time.Duration) float64 {
	var all turns
	for begin := time.Now(); time.Since(begin) < d; {
		start := time.Now()
		b.turn()
		all.add(time.Since(start))
	}
	return all.median()
}

// microLink returns what a packet costs the link, which receives and transmits
// without a worker.
func microLink(b *microBed) float64 {
	var d [turnSize]frame.Desc
	var all turns
	for begin := time.Now(); time.Since(begin) < microSlice/4; {
		start := time.Now()
		for at := 0; at < len(d); at += batchSize {
			b.link.Receive(d[at : at+batchSize])
		}
		b.link.Transmit(d[:])
		b.link.Flush()
		all.add(time.Since(start))
	}
	return all.median()
}

// turns are ns a packet of each turn. Their median does not see what else the machine
// does meanwhile: a turn takes 20 us, and few of them are interrupted.
type turns []float64

func (t *turns) add(d time.Duration) { *t = append(*t, float64(d)/turnSize) }

func (t *turns) median() float64 { return medianOf(*t) }

// clockCost is what asking for the time takes.
var clockCost time.Duration

func microClock() time.Duration {
	start := time.Now()
	for range 1000 {
		time.Now()
	}
	return time.Since(start) / 1000
}

// median of one figure over all rounds.
func (c *microCase) median(figure func(*microRound) float64) float64 {
	all := make([]float64, len(c.rounds))
	for i := range c.rounds {
		all[i] = figure(&c.rounds[i])
	}
	return medianOf(all)
}

func medianOf(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

func microHead() string {
	var s strings.Builder
	fmt.Fprintf(&s, "User plane alone, one worker, in-memory link, 60-byte TCP frames, %d batches of %d a turn; medians of %d interleaved rounds of medians of turns.\n", batches, batchSize, microRounds)
	fmt.Fprintf(&s, "%s, %s/%s, %s. Allocations per packet: 0 (asserted).\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, cpuModel())
	return s.String()
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return "unknown CPU"
}

func microEstablished(cases []*microCase) string {
	var s strings.Builder
	s.WriteString("Established flows, ns a packet. link is the benchmark's own (copying a frame in, giving it back) and not in total.\n")
	fmt.Fprintf(&s, "%-8s %9s %8s %9s %6s", "packets", "flows", "services", "routes", "link")
	for _, st := range microStages {
		fmt.Fprintf(&s, " %8s", st.name)
	}
	fmt.Fprintf(&s, " %7s %7s\n", "total", "Mpps")
	for _, c := range cases {
		if c.setup {
			continue
		}
		fmt.Fprintf(&s, "%-8s %9d %8d %9d %6.1f", c.kind, c.entries, c.services, c.routes, c.median(func(r *microRound) float64 { return r.link }))
		for i := range microStages {
			fmt.Fprintf(&s, " %8.1f", c.median(func(r *microRound) float64 { return r.stages[i] }))
		}
		net := c.median(func(r *microRound) float64 { return r.total - r.link })
		fmt.Fprintf(&s, " %7.1f %7.2f\n", net, 1e3/net)
	}
	return s.String()
}

// microInstructions is what the stages of each row execute.
func microInstructions(cases []*microCase) string {
	var s strings.Builder
	fmt.Fprintf(&s, "\nInstructions a packet, of a batch of %d: the stages' own, counted by single steps, which no noise disturbs.\n"+
		"Rows of other sizes, which -micro.rows counts, differ by 2 in a hundred: probes of the flow table.\n", microStepped)
	fmt.Fprintf(&s, "%-8s %9s %8s %9s", "packets", "flows", "services", "routes")
	for _, st := range microStages {
		fmt.Fprintf(&s, " %8s", st.name)
	}
	fmt.Fprintf(&s, " %7s\n", "total")
	for _, c := range cases {
		if *microRows == "" && (c.entries > 16_000 || c.services > 10 || c.routes > 100) {
			continue // the same but for a few probes; a step may take most of a millisecond
		}
		stages, err := microSteps(c)
		if err != nil {
			return fmt.Sprintf("\nInstructions are not counted: this process may not trace another (%v).\n", err)
		}
		flows, total := fmt.Sprint(c.entries), 0.0
		if c.setup {
			flows = "new"
		}
		fmt.Fprintf(&s, "%-8s %9s %8d %9d", c.kind, flows, c.services, c.routes)
		for _, n := range stages {
			fmt.Fprintf(&s, " %8.0f", n)
			total += n
		}
		fmt.Fprintf(&s, " %7.0f\n", total)
	}
	return s.String()
}

func microSetUps(cases []*microCase) string {
	var s strings.Builder
	fmt.Fprintf(&s, "\nNew flows (SYN), both entries of each; %d conversations in an empty table.\n", microSetups)
	fmt.Fprintf(&s, "%-8s %8s %9s %9s %14s\n", "packets", "services", "routes", "ns", "flows a second")
	for _, c := range cases {
		if c.setup {
			net := c.median(func(r *microRound) float64 { return r.total - r.link })
			fmt.Fprintf(&s, "%-8s %8d %9d %9.1f %14.0f\n", c.kind, c.services, c.routes, net, 1e9/net)
		}
	}
	return s.String()
}
