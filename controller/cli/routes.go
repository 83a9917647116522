package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/controller/api"
)

// routingInstance is what the API says of a VRF.
type routingInstance struct {
	FQName         []string    `json:"fq_name"`
	UUID           string      `json:"uuid"`
	VirtualNetwork string      `json:"virtual_network"`
	Tables         []api.Table `json:"tables"`
}

func routesCommand(p Program) *cli.Command {
	return &cli.Command{
		Name:  "routes",
		Usage: "show the routing instances: every route with the nodes that lead to it",
		Flags: askFlags(&cli.StringFlag{Name: "vrf", Usage: "only the routing instance of that `NAME` (a network's name or the whole path)"}),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			var page struct {
				Instances []routingInstance `json:"routing-instances"`
			}
			if err := ask(c, "/routing-instances", &page); err != nil {
				return err
			}
			chosen, err := choose(page.Instances, c.String("vrf"))
			if err != nil {
				return err
			}
			return show(c, p.Out, chosen, func(w io.Writer) { printRoutes(w, chosen) })
		},
	}
}

func choose(all []routingInstance, vrf string) ([]routingInstance, error) {
	if vrf == "" {
		return all, nil
	}
	known := make([]string, 0, len(all))
	for _, r := range all {
		if vrf == r.VirtualNetwork || vrf == strings.Join(r.FQName, ":") {
			return []routingInstance{r}, nil
		}
		known = append(known, r.VirtualNetwork)
	}
	return nil, fmt.Errorf("no routing instance %q; there are %s", vrf, strings.Join(known, ", "))
}

func printRoutes(out io.Writer, instances []routingInstance) {
	for i, r := range instances {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "Routing instance %s\n", strings.Join(r.FQName, ":"))
		for _, t := range r.Tables {
			if len(t.Routes) > 0 {
				printTable(out, t)
			}
		}
		if !slices.ContainsFunc(r.Tables, func(t api.Table) bool { return len(t.Routes) > 0 }) {
			fmt.Fprintln(out, "  no routes")
		}
	}
}

func printTable(out io.Writer, t api.Table) {
	fmt.Fprintf(out, "\n%s\n", t.Name)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintln(w, "Prefix\tKind\tSource\tNext hop\tLabel\tEncap\tMembers")
	for _, r := range t.Routes {
		prefix, kind := r.Prefix.String(), r.Kind
		if r.LoadBalancer != "" {
			kind += " " + r.LoadBalancer
		}
		if r.From != "" {
			kind += " from " + r.From
		}
		if r.ReplyOnly {
			kind += " (replies only)"
		}
		for _, p := range r.Paths {
			source := p.Source
			if p.Stale {
				source += " (stale)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%d\t%s\t%s\n", prefix, kind, source, p.NextHop, p.Label,
				strings.Join(p.TunnelEncapsulation, ","), members(p.Members))
			prefix, kind = "", "" // said once
		}
	}
}

func members(all []api.Member) string {
	out := make([]string, len(all))
	for i, m := range all {
		out[i] = fmt.Sprintf("%s(%d)", m.Pod, m.Label)
	}
	return strings.Join(out, " ")
}
