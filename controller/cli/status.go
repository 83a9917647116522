package cli

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/controller/api"
)

func statusCommand(p Program) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the nodes, what they have acknowledged, and every problem",
		Flags: askFlags(),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			var s api.Status
			if err := ask(c, "/status", &s); err != nil {
				return err
			}
			return show(c, p.Out, s, func(w io.Writer) { printStatus(w, &s, time.Now()) })
		},
	}
}

func printStatus(out io.Writer, s *api.Status, now time.Time) {
	fmt.Fprintf(out, "vrcontroller %s  cluster %s  %s\n", s.Version, s.Cluster, s.State)
	fmt.Fprintf(out, "manifests %s\n", s.Manifests)
	fmt.Fprintf(out, "%d virtual networks, %d virtual machine interfaces, %d load balancers, %d members, %d blocks leased\n\n",
		s.Counts.VirtualNetworks, s.Counts.VirtualInterfaces, s.Counts.LoadBalancers, s.Counts.Members, len(s.Leases))
	printAgents(out, s.Agents, now)
	if len(s.Problems) == 0 {
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
