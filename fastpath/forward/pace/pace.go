// Package pace says how much of a flow table is visited when, so that all of it is in
// time, and no packet waits for long. A Pace belongs to one worker. It does not visit.
package pace

import "github.com/vragent/vragent/fastpath/forward/entry"

const (
	// Whole is the time in which the whole table is visited once, in ticks.
	Whole = 5 * entry.Second
	// Most bounds the entries visited in one turn, hurry those when the table is swept: a
	// packet that comes meanwhile waits for the turn to end.
	Most  = 1024
	hurry = 8192
)

// Pace is how far the visits of a table are.
type Pace struct {
	Last  uint32 // tick of the last turn
	due   int    // entries to visit for the time that has passed
	sweep int    // entries to visit without waiting for time to pass
}

// Sweep has all slots visited in the next turns.
func (p *Pace) Sweep(slots int) { p.sweep = slots }

// Pending says that there are entries to visit before time passes.
func (p *Pace) Pending() bool { return p.due > 0 || p.sweep > 0 }

// Turn is how many entries to visit in this turn: what the time since the last one is worth,
// in one turn, or in several after a sleep.
func (p *Pace) Turn(now uint32, slots int) int {
	if now == p.Last && !p.Pending() {
		return 0
	}
	if passed := now - p.Last; passed > 0 {
		p.Last = now
		p.due = int(min(uint64(p.due)+uint64(slots)*uint64(passed)/Whole+1, uint64(slots)))
	}
	n := min(p.due, Most)
	if p.sweep > 0 {
		n = hurry
	}
	p.due, p.sweep = max(0, p.due-n), max(0, p.sweep-n)
	return n
}

// Skip is Turn for a table that is empty.
func (p *Pace) Skip(now uint32) { *p = Pace{Last: now} }
