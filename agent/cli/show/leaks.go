package show

import (
	"fmt"
	"io"

	"github.com/vragent/vragent/agent/rpc"
)

// WriteLeaks prints the outcome of a check of addresses, two lines for each leak.
func WriteLeaks(w io.Writer, c *rpc.LeakCheck) {
	if len(c.Leaks) == 0 {
		fmt.Fprintf(w, "%d addresses, all accounted for\n", c.Addresses)
		return
	}
	for _, l := range c.Leaks {
		state := "LEAK"
		if l.Repaired {
			state = "repaired"
		}
		fmt.Fprintf(w, "%-8s  %v of %s", state, l.Addr, l.Network)
		if l.Owner != "" {
			fmt.Fprintf(w, ", %s", l.Owner)
		}
		fmt.Fprintf(w, "\n          %s\n", withFix(l.Cause, l.Fix))
	}
	fmt.Fprintf(w, "%d addresses looked at, leaks: %d\n", c.Addresses, len(c.Leaks))
}
