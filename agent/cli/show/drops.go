package show

import (
	"fmt"
	"io"

	"github.com/vragent/vragent/fastpath/control"
)

// WriteDrops prints drop counters as Contrail's dropstats does: name and value.
// core selects one worker's share, -1 the sum. Unless all is set, only reasons
// that occurred are printed, each with its meaning.
func WriteDrops(w io.Writer, drops []control.DropCounter, core int, all bool) {
	printed := false
	for _, d := range drops {
		n := DropCount(d, core)
		if n == 0 && !all {
			continue
		}
		printed = true
		fmt.Fprintf(w, "%-28s%12d   %s\n", d.Name, n, d.Sentence)
	}
	if !printed {
		fmt.Fprintln(w, "No drops.")
	}
}

// DropCount is a counter's sum (core -1) or one worker's share.
func DropCount(d control.DropCounter, core int) uint64 {
	switch {
	case core < 0:
		return d.Count
	case core < len(d.PerCore):
		return d.PerCore[core]
	}
	return 0
}

// WriteTrace prints the decision of each stage and the verdict.
func WriteTrace(w io.Writer, t control.Trace) {
	for _, s := range t.Steps {
		fmt.Fprintf(w, "%-10s %s\n", s.Stage, s.Text)
	}
	fmt.Fprintf(w, "%-10s %s", "verdict", t.Verdict)
	if t.Reason != "" {
		fmt.Fprintf(w, ": %s", t.Reason)
	}
	fmt.Fprintln(w)
}
