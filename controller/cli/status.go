package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/controller/api"
)

func statusCommand(p Program) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the nodes, what they have acknowledged, and every problem",
		Description: "Exits with 0 when all is well, 3 when there is a problem, a refusal, or a node whose agent is\n" +
			"absent, stale or unknown, 4 when the controller does not answer. Notices change nothing.",
		Flags: askFlags(),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			var s api.Status
			if err := ask(c, "/status", &s); err != nil {
				return err
			}
			if err := show(c, p.Out, s, func(w io.Writer) { printStatus(w, &s, time.Now()) }); err != nil {
				return err
			}
			if degraded(&s) {
				return &coded{code: ExitDegraded} // the answer says it all
			}
			return nil
		},
	}
}

// degraded is a state that somebody should look at.
func degraded(s *api.Status) bool {
	return len(s.Problems) > 0 || slices.ContainsFunc(s.Agents, func(a api.Agent) bool {
		return len(a.Refusals) > 0 || slices.Contains([]string{"absent", "stale", "unknown"}, a.State)
	})
}

func printStatus(out io.Writer, s *api.Status, now time.Time) {
	fmt.Fprintf(out, "vrcontroller %s  cluster %s  %s\n", s.Version, s.Cluster, s.State)
	fmt.Fprintf(out, "manifests %s\n", s.Manifests)
	fmt.Fprintf(out, "%s, %s, %s, %s, %s leased\n\n",
		count(s.Counts.VirtualNetworks, "virtual network"), count(s.Counts.VirtualInterfaces, "virtual machine interface"),
		count(s.Counts.LoadBalancers, "load balancer"), count(s.Counts.Members, "member"), count(len(s.Leases), "block"))
	printAgents(out, s.Agents, now)
	if len(s.Notices) > 0 {
		fmt.Fprintf(out, "\nnotices (%d):\n", len(s.Notices))
		for _, n := range s.Notices {
			fmt.Fprintf(out, "  %s: %s\n", n.Object, n.Problem)
		}
	}
	switch {
	case len(s.Problems) > 0:
	case degraded(s):
		fmt.Fprintln(out, "\nno problems but those of the nodes above")
		return
	default:
		fmt.Fprintln(out, "\nno problems")
		return
	}
	fmt.Fprintf(out, "\nproblems (%d):\n", len(s.Problems))
	for _, p := range s.Problems {
		fmt.Fprintf(out, "  %s: %s\n", p.Object, p.Problem)
	}
}

func printAgents(out io.Writer, agents []api.Agent, now time.Time) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "Node\tState\tTunnel\tVMIs\tRoutes\tPending\tSince\tAgent")
	for _, a := range agents {
		since := "-"
		if !a.Since.IsZero() {
			since = now.Sub(a.Since).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", a.Node, a.State, cmp.Or(a.TunnelAddress, "-"), a.VMIs, a.Routes, a.Pending,
			since, cmp.Or(a.AgentVersion, "-"))
	}
	w.Flush()
	for _, a := range agents {
		for _, r := range a.Refusals {
			fmt.Fprintf(out, "%s refuses %s\n", a.Node, r)
		}
	}
}
