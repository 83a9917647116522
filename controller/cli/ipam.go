package cli

import (
	"fmt"
	"io"
	"net/http"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/controller/api"
)

func ipamCommand(p Program) *cli.Command {
	check := &cli.Command{
		Name:  "check",
		Usage: "look for addresses that are given twice, or kept by nobody",
		Description: "Compares leases, agents, pods and services. --repair asks the leader to give back the blocks\n" +
			"of nodes that are gone, without waiting for networks.blockQuarantine: say so only when the nodes\n" +
			"do not come back. Exits with 0 when nothing is found, 2 when something is, and 1 when that cannot\n" +
			"be told because the controller does not answer, or is not the leader and was to repair.",
		Flags:           askFlags(&cli.BoolFlag{Name: "repair", Usage: "give back at once what nobody uses"}),
		HideHelpCommand: true,
		OnUsageError:    misused,
		Action: verdict(func(c *cli.Context) (bool, error) {
			if err := noArguments(c); err != nil {
				return false, err
			}
			method, path := http.MethodGet, "/ipam"
			if c.Bool("repair") {
				method, path = http.MethodPost, "/ipam/repair"
			}
			var found api.IPAM
			if err := request(c, method, path, &found); err != nil {
				return false, err
			}
			print := func(w io.Writer) { printFindings(w, &found, c.Bool("repair")) }
			return len(found.Findings) == 0, show(c, p.Out, found, print)
		}),
	}
	return &cli.Command{
		Name:        "ipam",
		Usage:       "check the addresses of pods, nodes and services",
		Subcommands: []*cli.Command{check},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("there is no command %q", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

func printFindings(out io.Writer, found *api.IPAM, repair bool) {
	released := 0
	for _, f := range found.Findings {
		kind := ""
		if f.Leak {
			kind = "leak: "
		}
		fmt.Fprintf(out, "%s%s: %s\n  → %s\n", kind, f.Object, f.Problem, f.Fix)
		released += len(f.Release)
	}
	switch {
	case len(found.Findings) == 0:
		fmt.Fprintf(out, "%s leased, nothing found\n", count(found.Blocks, "block"))
	case repair:
		fmt.Fprintf(out, "%s found; the leader gives back %s now\n", count(len(found.Findings), "fault"), count(released, "block"))
	case released > 0:
		fmt.Fprintf(out, "%s found; --repair would give back %s\n", count(len(found.Findings), "fault"), count(released, "block"))
	default:
		fmt.Fprintf(out, "%s found\n", count(len(found.Findings), "fault"))
	}
}
