package forward

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/link/mem"
)

// microWorst is something that costs the user plane more than it should often have to do.
type microWorst struct {
	what    string
	prepare func(*microWorst, *testing.T)
	turn    func(*microBed)
	bed     *microBed
	ns      []float64
}

// microBad measures bad cases: ns a packet, the link's cost included.
func microBad(t *testing.T) string {
	const flows = 16_000
	worst := []*microWorst{
		{what: "established flows, for comparison", prepare: established(flows, 0), turn: func(b *microBed) { b.turn() }},
		{what: "all packets are of one flow", prepare: established(flows, 1), turn: func(b *microBed) { b.turn() }},
		{what: "the tables change before every turn", prepare: established(flows, 0), turn: func(b *microBed) {
			again := *b.w.view.Tables
			b.w.s.tables.Store(&again)
			b.turn()
		}},
		{what: "SYNs of a pod that has its quota: refused", prepare: flooded(flows), turn: func(b *microBed) { b.turn() }},
	}
	for _, m := range worst {
		m.prepare(m, t)
	}
	for range microRounds {
		for _, m := range worst {
			var all turns
			for begin := time.Now(); time.Since(begin) < microSlice; {
				start := time.Now()
				m.turn(m.bed)
				all.add(time.Since(start))
			}
			m.ns = append(m.ns, all.median())
		}
	}
	var s strings.Builder
	fmt.Fprintf(&s, "\nBad cases, %d entries, local; ns a packet, the link's cost included.\n", flows)
	for _, m := range worst {
		fmt.Fprintf(&s, "%-50s %9.1f\n", m.what, medianOf(m.ns))
	}
	return s.String()
}

// established replays flows, or only the first few.
func established(flows, few int) func(*microWorst, *testing.T) {
	return func(m *microWorst, t *testing.T) {
		c := &microCase{kind: "local", entries: flows, services: 10, routes: 100, tables: microTables(t, 10, 100)}
		c.prepare(t)
		m.bed = c.bed
		if few > 0 {
			m.bed.replay(m.bed.link.Packets[:few])
		}
	}
}

// flooded has a pod begin as many connections as it may, which nobody answers, and more.
func flooded(flows int) func(*microWorst, *testing.T) {
	return func(m *microWorst, t *testing.T) {
		m.bed = newMicroBed(t, microTables(t, 10, 100), flows, false)
		packets := make([]mem.Packet, 60*flows)
		for i := range packets {
			tuple := conversation("local", i, 10, 100)
			packets[i] = microPacket(&tuple)
			packets[i].Frame += microSyn
		}
		m.bed.replay(packets)
		for range 2 * flows / turnSize {
			m.bed.turn()
		}
	}
}
