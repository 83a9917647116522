package show

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/vragent/vragent/fastpath/table"
)

// Route is a route with what it leads to, for JSON and YAML.
type Route struct {
	table.Route
	VRFName string       `json:"vrfName"`
	Type    table.NHType `json:"type"`
	Text    string       `json:"text"` // what the next hop does, in one line
}

// RouteQuery selects routes. Zero values match everything.
type RouteQuery struct {
	VRF    table.VRFID
	Family string       // inet, inet6
	Prefix netip.Prefix // this route, or else the longest that covers it
}

// Routes returns the routes that q selects, by VRF, family and address.
func (t *Tables) Routes(q RouteQuery) []Route {
	var out []Route
	best := map[table.VRFID]Route{}
	for _, r := range t.State.Routes {
		if q.VRF != 0 && r.VRF != q.VRF || q.Family != "" && familyFlag(r.Prefix) != q.Family {
			continue
		}
		if q.Prefix.IsValid() && !covers(r.Prefix, q.Prefix) {
			continue
		}
		nh, _ := t.NH(r.NH)
		v := Route{r, t.vrfName(r.VRF), nh.Type, t.Describe(r.NH)}
		if q.Prefix.IsValid() {
			if b, ok := best[r.VRF]; !ok || b.Prefix.Bits() < r.Prefix.Bits() {
				best[r.VRF] = v
			}
			continue
		}
		out = append(out, v)
	}
	for _, vrf := range t.State.VRFs {
		if v, ok := best[vrf.ID]; ok {
			out = append(out, v)
		}
	}
	return out
}

func covers(r, p netip.Prefix) bool {
	return r.Bits() <= p.Bits() && r.Contains(p.Addr())
}

func familyFlag(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "inet"
	}
	return "inet6"
}

// WriteRoutes prints routes as Contrail's rt does, a table for each VRF and
// family; below the route of a VIP, its listeners and members.
func (t *Tables) WriteRoutes(w io.Writer, routes []Route) {
	fmt.Fprintln(w, "Flags: L=Label Valid, P=Proxy ARP, T=Trap ARP, F=Flood ARP, Ml=MAC-IP learnt route, R=Reply only, N=NAT to the cluster address")
	var vrf table.VRFID
	var fam string
	for _, r := range routes {
		if r.VRF != vrf || family(r.Prefix) != fam {
			vrf, fam = r.VRF, family(r.Prefix)
			fmt.Fprintf(w, "vRouter %s routing table 0/%d/unicast (%s)\n", fam, vrf, r.VRFName)
			fmt.Fprintf(w, "%-*s PPL        Flags        Label         Nexthop    Stitched MAC(Index)\n",
				destWidth(fam), "Destination")
		}
		t.writeRoute(w, r, destWidth(fam))
	}
}

// destWidth is the width of the first column: an IPv6 prefix needs more.
func destWidth(fam string) int {
	if fam == "inet6" {
		return 43
	}
	return 21
}

func (t *Tables) writeRoute(w io.Writer, r Route, width int) {
	label, mac := "-", "-"
	if r.Label != 0 {
		label = fmt.Sprint(r.Label)
	}
	nh, _ := t.NH(r.NH)
	if v, ok := t.vifs[nh.Vif]; ok && nh.Type == table.NHEncap {
		mac = fmt.Sprintf("%s(%d)", shortMAC(v.MAC), v.ID)
	}
	fmt.Fprintf(w, "%-*s%4d%13s%13s%14d        %s\n", width, r.Prefix, r.Prefix.Bits(), routeFlags(r.Route), label, r.NH, mac)
	t.writeVIP(w, nh)
}

func routeFlags(r table.Route) string {
	flags := ""
	for _, f := range []struct {
		set    bool
		letter string
	}{{r.Label != 0, "L"}, {r.ReplyOnly, "R"}, {r.Translate, "N"}} {
		if f.set {
			flags += f.letter
		}
	}
	if flags == "" {
		return "-"
	}
	return flags
}

// writeVIP explains a route that leads to a set of backends.
func (t *Tables) writeVIP(w io.Writer, nh table.NextHop) {
	switch nh.Type {
	case table.NHComposite:
		fmt.Fprintf(w, "    %s\n", t.compositeText(nh))
		t.writeMembers(w, nh, "      ")
	case table.NHService:
		fmt.Fprintf(w, "    %s\n", t.Describe(nh.ID))
		for _, l := range nh.Listeners {
			from := ""
			if l.HostOnly {
				from = " from the host"
			}
			t.writeListener(w, fmt.Sprintf("%s/%d%s", ProtoName(l.Proto), l.Port, from), l.NH)
			if l.OutsideNH != 0 {
				t.writeListener(w, fmt.Sprintf("%s/%d from outside", ProtoName(l.Proto), l.Port), l.OutsideNH)
			}
		}
	}
}

func (t *Tables) writeListener(w io.Writer, what string, id table.NextHopID) {
	fmt.Fprintf(w, "      %s -> nh %d: %s\n", what, id, t.Describe(id))
	if c, ok := t.NH(id); ok {
		t.writeMembers(w, c, "        ")
	}
}

func (t *Tables) writeMembers(w io.Writer, nh table.NextHop, indent string) {
	for _, m := range nh.Members {
		if m.NH != 0 {
			fmt.Fprintf(w, "%s%s\n", indent, t.memberText(m))
		}
	}
}

// shortMAC is Contrail's form in rt: no leading zeros.
func shortMAC(m table.MAC) string {
	return fmt.Sprintf("%x:%x:%x:%x:%x:%x", m[0], m[1], m[2], m[3], m[4], m[5])
}
