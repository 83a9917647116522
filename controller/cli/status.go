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
		Usage: "is the cluster's network healthy, and if not, what is to be done?",
		Description: "Exits with 0 when all is well, 2 when there is a problem (notices are none), and 1 when that\n" +
			"cannot be told because the controller does not answer.",
		Flags: askFlags(),
		Action: verdict(func(c *cli.Context) (bool, error) {
			if err := noArguments(c); err != nil {
				return false, err
			}
			var s api.Status
			if err := ask(c, "/status", &s); err != nil {
				return false, err
			}
			return s.Healthy, show(c, p.Out, s, func(w io.Writer) { printStatus(w, &s, time.Now()) })
		}),
	}
}

// verdict ends a command that asks whether all is well.
func verdict(ask func(*cli.Context) (bool, error)) cli.ActionFunc {
	return func(c *cli.Context) error {
		switch well, err := ask(c); {
		case err != nil:
			return unknown(named(c, err))
		case !well:
			return &coded{code: ExitUnhealthy} // the answer says it all
		}
		return nil
	}
}

func printStatus(out io.Writer, s *api.Status, now time.Time) {
	fmt.Fprintf(out, "vrcontroller %s  cluster %s  %s  %s\n", s.Version, s.Cluster, s.State, word(s.Healthy))
	if s.APIServer == nil {
		fmt.Fprintf(out, "manifests %s\n", s.Manifests)
	} else {
		printAPIServer(out, s.APIServer, now)
	}
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
	if len(s.Problems) == 0 {
		fmt.Fprintln(out, "\nno problems")
		return
	}
	fmt.Fprintf(out, "\nproblems (%d):\n", len(s.Problems))
	for _, p := range s.Problems {
		fmt.Fprintf(out, "  %s: %s\n", p.Object, p.Problem)
		if p.Fix != "" {
			fmt.Fprintf(out, "    → %s\n", p.Fix)
		}
	}
}

func word(healthy bool) string {
	if healthy {
		return "healthy"
	}
	return "NOT HEALTHY"
}

func printAPIServer(out io.Writer, a *api.APIServer, now time.Time) {
	state := "connected"
	if !a.Connected {
		state = "not connected"
	}
	fmt.Fprintf(out, "API server %s  %s since %s\n", a.Address, state, age(a.Since, now))
	self := ""
	if a.Leader.Self {
		self = " (this replica)"
	}
	fmt.Fprintf(out, "leader %s%s since %s\n", a.Leader.Shown(), self, age(a.Leader.Since, now))
}

// age is how long ago something was.
func age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return now.Sub(t).Round(time.Second).String()
}

func printAgents(out io.Writer, agents []api.Agent, now time.Time) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "Node\tState\tTunnel\tVMIs\tRoutes\tPending\tSince\tAgent")
	for _, a := range agents {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", a.Node, a.State, cmp.Or(a.TunnelAddress, "-"), a.VMIs, a.Routes, a.Pending,
			age(a.Since, now), cmp.Or(a.AgentVersion, "-"))
	}
	w.Flush()
}
