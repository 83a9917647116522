package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vragent/vragent/agent/compile"
)

// Our chains. Rules of others are never touched; removing the chains removes us.
const (
	chainPost    = "VRAGENT-POSTROUTING" // in nat, from POSTROUTING
	chainInward  = "VRAGENT-INWARD"      // in nat, from the one above: what leaves by the host's interface
	chainPorts   = "VRAGENT-NODEPORTS"   // in nat, from PREROUTING and OUTPUT
	chainForward = "VRAGENT-FORWARD"     // in filter, from FORWARD
)

// Rules are what the host's firewall must do for pods and services.
type Rules struct {
	Host  string       // the host's interface
	Addrs []netip.Addr // of it
	// Pods and Services are the subnets of all networks. What comes from them and
	// leaves the cluster takes the node's address.
	Pods, Services []netip.Prefix
	Masquerade     bool
	NodePorts      []compile.NodePort
	Externals      []compile.External
	Trusted        []netip.Addr // may reach pods through this node: the API servers
}

// EnsureRules writes the chains, both families, where they differ.
func EnsureRules(r Rules) error {
	four, six, err := families()
	if err != nil {
		return err
	}
	for _, f := range []*firewall{four, six} {
		if f == nil {
			continue
		}
		if err := r.ensure(f, f == four); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rules) ensure(f *firewall, v4 bool) error {
	var present, absent []chain
	var ports chain
	for _, c := range r.chains(v4) {
		if c.name == chainPorts {
			ports = c
		}
		if len(c.rules) > 0 {
			present = append(present, c)
		} else {
			absent = append(absent, c)
		}
	}
	before, err := f.lines(ports)
	if err != nil {
		return err
	}
	if err := f.ensure(present); err != nil {
		return err
	}
	if err := f.remove(absent); err != nil {
		return err
	}
	return forgetFlows(changedPorts(before, ports.lines()), v4)
}

// RemoveRules deletes the chains and the jumps to them.
func RemoveRules() error {
	four, six, err := families()
	if err != nil {
		return err
	}
	for _, f := range []*firewall{four, six} {
		if f == nil {
			continue
		}
		if err := f.remove((&Rules{}).chains(f == four)); err != nil {
			return err
		}
	}
	return nil
}

// chains are all of ours, of one family.
func (r *Rules) chains(v4 bool) []chain {
	f := family{v4, r}
	return []chain{
		{table: "nat", name: chainPost, parents: []string{"POSTROUTING"}, rules: f.post()},
		{table: "nat", name: chainInward, rules: f.inward()},
		{
			table: "nat", name: chainPorts, parents: []string{"PREROUTING", "OUTPUT"},
			match: []string{"-m", "addrtype", "--dst-type", "LOCAL"}, rules: f.ports(),
		},
		{table: "filter", name: chainForward, parents: []string{"FORWARD"}, rules: f.forward()},
	}
}

// family writes the rules of one family.
type family struct {
	v4 bool
	*Rules
}

func (f family) prefixes(lists ...[]netip.Prefix) (out []netip.Prefix) {
	for _, list := range lists {
		for _, p := range list {
			if p.Addr().Is4() == f.v4 {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// post translates what a network sends outside: not what goes to networks.
func (f family) post() (rules []string) {
	rules = append(rules, "-o "+f.Host+" -g "+chainInward)
	if !f.Masquerade {
		return rules
	}
	all := f.prefixes(f.Pods, f.Services)
	for _, to := range all {
		rules = append(rules, "-d "+to.String()+" -j RETURN")
	}
	for _, from := range all {
		rules = append(rules, "-s "+from.String()+" -j MASQUERADE")
	}
	return rules
}

// inward translates what leaves by the host's interface where the answer would not
// come back this way by itself.
func (f family) inward() (rules []string) {
	for _, a := range f.Addrs {
		if a.Is4() == f.v4 {
			rules = append(rules, "-s "+host(a)+" -j RETURN")
		}
	}
	// The node by another of its addresses: other nodes know only the above.
	rules = append(rules, "-m addrtype --src-type LOCAL -j MASQUERADE")
	// Pods that came out by an address of the node: the answer must pass here,
	// where the address is put back.
	for _, from := range f.prefixes(f.Pods) {
		rules = append(rules, "-s "+from.String()+" -m conntrack --ctstate DNAT -j MASQUERADE")
	}
	// Clients outside of the cluster keep their addresses when only backends of this
	// node answer them.
	for _, p := range f.nodePorts() {
		if p.Local {
			proto := protocol(p.Proto)
			rules = append(rules, "-d "+host(p.VIP)+" -p "+proto+" -m "+proto+" --dport "+strconv.Itoa(int(p.Port))+" -j RETURN")
		}
	}
	for _, e := range f.externals() {
		verdict := "MASQUERADE"
		if e.Local {
			verdict = "RETURN"
		}
		rules = append(rules, "-d "+host(e.VIP)+" -j "+verdict)
	}
	for _, to := range f.prefixes(f.Services, f.strayVIPs()) {
		rules = append(rules, "-d "+to.String()+" -j MASQUERADE")
	}
	return rules
}

// strayVIPs of node ports are in no subnet of services.
func (f family) strayVIPs() (out []netip.Prefix) {
	for _, p := range f.nodePorts() {
		if !slices.ContainsFunc(f.Services, func(s netip.Prefix) bool { return s.Contains(p.VIP) }) {
			out = append(out, netip.PrefixFrom(p.VIP, p.VIP.BitLen()))
		}
	}
	return out
}

// ports leads node ports to VIPs. The port stays: the VIP listens on it for what
// comes from the host.
func (f family) ports() (rules []string) {
	for _, p := range f.nodePorts() {
		proto := protocol(p.Proto)
		rules = append(rules, "-p "+proto+" -m "+proto+" --dport "+strconv.Itoa(int(p.Port))+" -j DNAT --to-destination "+p.VIP.String())
	}
	if len(rules) == 0 {
		return nil
	}
	var not []string
	for _, a := range f.Addrs {
		if a.Is4() == f.v4 {
			not = append(not, "-d "+host(a)+" -j RETURN")
		}
	}
	if f.v4 {
		return append(append(not, "-d 127.0.0.0/8 -j RETURN"), rules...)
	}
	return append(append(not, "-d ::1/128 -j RETURN"), rules...)
}

// forward lets pass what is ours, except: what a pod's network refuses or does not
// know (it came out by the default route, and would come in again as if the node
// itself had sent it), and what begins outside and asks for pods or cluster IPs by
// their addresses. Node ports and kube-proxy's services are translated by then.
func (f family) forward() (rules []string) {
	reject := " -j REJECT --reject-with icmp-port-unreachable"
	if !f.v4 {
		reject = " -j REJECT --reject-with icmp6-port-unreachable"
	}
	back := "-i " + f.Host + " -o " + f.Host
	for _, to := range f.prefixes(f.Services) {
		rules = append(rules, back+" -m conntrack --ctorigdst "+f.orig(to)+reject)
	}
	rules = append(rules, back+" -m conntrack ! --ctstate DNAT"+reject, "-i "+f.Host+" -j ACCEPT")
	for _, e := range f.externals() {
		rules = append(rules, "-d "+host(e.VIP)+" -o "+f.Host+" -j ACCEPT")
	}
	for _, a := range f.Trusted {
		if a.Is4() == f.v4 {
			rules = append(rules, "-s "+host(a)+" -o "+f.Host+" -j ACCEPT")
		}
	}
	return append(rules, "-o "+f.Host+" -m conntrack --ctstate NEW -m conntrack ! --ctstate DNAT"+reject, "-o "+f.Host+" -j ACCEPT")
}

// orig writes a prefix as conntrack matches are listed: without the length of a
// single address.
func (family) orig(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func (f family) nodePorts() (out []compile.NodePort) {
	for _, p := range f.NodePorts {
		if p.VIP.Is4() == f.v4 && protocol(p.Proto) != "" {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b compile.NodePort) int {
		if a.Port != b.Port {
			return int(a.Port) - int(b.Port)
		}
		return int(a.Proto) - int(b.Proto)
	})
	return slices.CompactFunc(out, func(a, b compile.NodePort) bool { return a.Port == b.Port && a.Proto == b.Proto })
}

func (f family) externals() (out []compile.External) {
	for _, e := range f.Externals {
		if e.VIP.Is4() == f.v4 {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b compile.External) int { return a.VIP.Compare(b.VIP) })
	return slices.CompactFunc(out, func(a, b compile.External) bool { return a.VIP == b.VIP })
}

// protocol names those that have ports as iptables lists them.
func protocol(p uint8) string {
	return map[uint8]string{6: "tcp", 17: "udp", 132: "sctp"}[p]
}

func host(a netip.Addr) string { return fmt.Sprintf("%s/%d", a, a.BitLen()) }
