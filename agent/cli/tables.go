package cli

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/agent/cli/show"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

// habit is a flag that Contrail's tools need to list and ours take silently.
func habit(name string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: aliases, Usage: "list all (the default)", DisableDefaultText: true}
}

func vifCommand() *cli.Command {
	return verb(cli.Command{
		Name: "vif", Usage: "interfaces of the fast path, with counters",
		Flags: []cli.Flag{
			habit("list", "l"),
			&cli.StringFlag{Name: "get", Usage: "only this vif: its `NUMBER` or device name"},
		},
	}, func(q *question) error {
		vifs, err := q.vifs()
		if err != nil {
			return err
		}
		if q.IsSet("get") {
			v, err := findVif(vifs, q.String("get"))
			if err != nil {
				return err
			}
			vifs = []control.VifStats{v}
		}
		return q.print(vifs, func(w io.Writer) { show.WriteVifs(w, vifs) })
	})
}

// vifs reads the vifs and their counters.
func (q *question) vifs() ([]control.VifStats, error) {
	r, err := q.askFastPath(control.Request{Vifs: &control.Empty{}})
	if err != nil {
		return nil, err
	}
	if r.Vifs == nil {
		return []control.VifStats{}, nil
	}
	return r.Vifs, nil
}

// findVif finds a vif by number (3, vif0/3) or by device name.
func findVif(vifs []control.VifStats, s string) (control.VifStats, error) {
	number := strings.TrimPrefix(s, "vif0/")
	for _, v := range vifs {
		if v.Name == s || fmt.Sprint(v.ID) == number {
			return v, nil
		}
	}
	return control.VifStats{}, fmt.Errorf("there is no vif %q", s)
}

func nhCommand() *cli.Command {
	return verb(cli.Command{
		Name: "nh", Usage: "next hops; --get of a composite or service also prints those below it",
		Flags: []cli.Flag{
			habit("list", "l"),
			&cli.UintFlag{Name: "get", DefaultText: "all", Usage: "only next hop `NUMBER`"},
		},
	}, func(q *question) error {
		t, err := q.tables()
		if err != nil {
			return err
		}
		list := t.NextHops()
		if q.IsSet("get") {
			var ok bool
			if list, ok = t.Chain(table.NextHopID(q.Uint("get"))); !ok {
				return fmt.Errorf("there is no next hop %d", q.Uint("get"))
			}
		}
		return q.print(list, func(w io.Writer) { t.WriteNextHops(w, list) })
	})
}

func rtCommand() *cli.Command {
	return verb(cli.Command{
		Name: "rt", Usage: "routes, with the listeners and members of VIPs",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "vrf", Aliases: []string{"dump", "V"}, Usage: "only this VRF: its `NUMBER` or name"},
			&cli.StringFlag{Name: "get", Usage: "the route of `PREFIX`, or the longest that covers it or an address"},
			&cli.StringFlag{Name: "family", Usage: "`inet` or inet6"},
		},
	}, func(q *question) error {
		query, err := routeQuery(q)
		if err != nil {
			return usage(q.Context, "%v", err)
		}
		t, err := q.tables()
		if err != nil {
			return err
		}
		if name := q.String("vrf"); name != "" {
			vrf, ok := t.VRF(name)
			if !ok {
				return fmt.Errorf("there is no VRF %q", name)
			}
			query.VRF = vrf.ID
		}
		routes := t.Routes(query)
		if len(routes) == 0 && query.Prefix.IsValid() {
			return fmt.Errorf("no route covers %s", q.String("get"))
		}
		return q.print(nonNil(routes), func(w io.Writer) { t.WriteRoutes(w, routes) })
	})
}

// routeQuery reads --get and --family.
func routeQuery(q *question) (show.RouteQuery, error) {
	var query show.RouteQuery
	switch f := q.String("family"); f {
	case "", "inet", "inet6":
		query.Family = f
	default:
		return query, fmt.Errorf("unknown family %q: want inet or inet6 (there are no bridge tables: networks are routed)", f)
	}
	if s := q.String("get"); s != "" {
		p, err := parsePrefix(s)
		if err != nil {
			return query, err
		}
		query.Prefix = p
	}
	return query, nil
}

// parsePrefix reads a prefix, or an address as its own /32 or /128.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix", s)
	}
	return p.Masked(), nil
}

func mplsCommand() *cli.Command {
	return verb(cli.Command{
		Name: "mpls", Usage: "labels this node receives",
		Flags: []cli.Flag{
			habit("dump", "list", "l"),
			&cli.UintFlag{Name: "get", DefaultText: "all", Usage: "only label `NUMBER`, with its next hop"},
		},
	}, func(q *question) error {
		t, err := q.tables()
		if err != nil {
			return err
		}
		labels := t.Labels()
		if !q.IsSet("get") {
			return q.print(labels, func(w io.Writer) { show.WriteLabels(w, labels) })
		}
		for _, l := range labels {
			if l.Label == table.Label(q.Uint("get")) {
				return q.print(l, func(w io.Writer) {
					show.WriteLabels(w, []show.Label{l})
					fmt.Fprintln(w)
					chain, _ := t.Chain(l.NH)
					t.WriteNextHops(w, chain)
				})
			}
		}
		return fmt.Errorf("there is no label %d", q.Uint("get"))
	})
}

func vrfCommand() *cli.Command {
	return verb(cli.Command{
		Name: "vrf", Usage: "routing instances: a VRF for each virtual network",
		Flags: []cli.Flag{
			habit("list", "l"),
			&cli.StringFlag{Name: "get", Usage: "only this VRF: its `NUMBER` or name"},
		},
	}, func(q *question) error {
		t, err := q.tables()
		if err != nil {
			return err
		}
		vrfs := t.VRFs()
		if name := q.String("get"); name != "" {
			vrf, ok := t.VRF(name)
			if !ok {
				return fmt.Errorf("there is no VRF %q", name)
			}
			vrfs = only(vrfs, func(v show.VRF) bool { return v.ID == vrf.ID })
		}
		return q.print(vrfs, func(w io.Writer) { show.WriteVRFs(w, vrfs) })
	})
}

// only keeps the elements that keep approves.
func only[T any](list []T, keep func(T) bool) []T {
	out := []T{}
	for _, v := range list {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}

// nonNil makes an empty list print as [] in JSON.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func dropstatsCommand() *cli.Command {
	return verb(cli.Command{
		Name: "dropstats", Usage: "packets dropped, by reason",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "core", Value: -1, DefaultText: "all", Usage: "only worker `N`'s share"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also the reasons that never occurred", DisableDefaultText: true},
		},
	}, func(q *question) error {
		core := q.Int("core")
		if q.IsSet("core") && core < 0 {
			return usage(q.Context, "--core %d: workers are numbered from 0", core)
		}
		r, err := q.askFastPath(control.Request{DropStats: &control.Empty{}})
		if err != nil {
			return err
		}
		if workers := countWorkers(r.DropStats); core >= workers {
			return fmt.Errorf("there is no worker %s: the fast path has %d", strconv.Itoa(core), workers)
		}
		return q.print(nonNil(r.DropStats), func(w io.Writer) { show.WriteDrops(w, r.DropStats, core, q.Bool("all")) })
	})
}

func countWorkers(drops []control.DropCounter) int {
	n := 0
	for _, d := range drops {
		n = max(n, len(d.PerCore))
	}
	return n
}
