package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vragent/vragent/controller/southbound"
)

func addresses(list string) []netip.Addr {
	var out []netip.Addr
	for a := range strings.SplitSeq(list, ",") {
		if a != "" {
			out = append(out, netip.MustParseAddr(a))
		}
	}
	return out
}

// service: [NAMESPACE/]NAME VIP[,VIP]|headless|elsewhere PORTNAME/PROTO/PORT[/NODEPORT] … [created=N] [publish-not-ready]
// [affinity=SECONDS] [internal-local] [external-local] [health=PORT] [external=A[,A]] [balanced|balanced-by-others]
// [wanted=A] [pool=[PROJECT/]NAME] [status=A[,A]] [ranges] [fault=TEXT]; saying it again replaces it
func (w *world) service(f []string) error {
	_ = w.remove("service", f[1])
	s := Service{Meta: meta("Service", f[1], 100), Headless: f[2] == "headless", External: f[2] == "elsewhere"}
	if !s.Headless && !s.External {
		s.VIPs = addresses(f[2])
	}
	s.Faults = faultsOf(f)
	if n, err := strconv.Atoi(option(f, "created")); err == nil {
		s.Created = time.Unix(int64(n), 0)
	}
	affinity, _ := strconv.ParseUint(option(f, "affinity"), 10, 32)
	s.AffinitySeconds = uint32(affinity)
	s.PublishNotReady = slices.Contains(f, "publish-not-ready")
	s.InternalLocal = slices.Contains(f, "internal-local")
	health, _ := strconv.ParseUint(option(f, "health"), 10, 16)
	s.Outside = Outside{
		IPs: addresses(option(f, "external")), Local: slices.Contains(f, "external-local"), HealthPort: uint16(health),
		LoadBalancer: slices.Contains(f, "balanced"), OtherClass: slices.Contains(f, "balanced-by-others"),
		Pool: fqName(option(f, "pool")), Ingress: addresses(option(f, "status")), SourceRanges: slices.Contains(f, "ranges"),
	}
	if a := option(f, "wanted"); a != "" {
		s.Outside.Wanted = netip.MustParseAddr(a)
	}
	for _, x := range f[3:] {
		if !strings.Contains(x, "/") || strings.Contains(x, "=") {
			continue
		}
		name, proto, port, err := portOf(x)
		if err != nil {
			return err
		}
		p := ServicePort{Name: name, Protocol: proto, Port: port}
		if part := strings.Split(x, "/"); len(part) > 3 {
			n, _ := strconv.ParseUint(part[3], 10, 16)
			p.NodePort = uint16(n)
		}
		s.Ports = append(s.Ports, p)
	}
	w.cluster.Services = append(w.cluster.Services, s)
	return nil
}

// slice: [NAMESPACE/]NAME SERVICE 4|6 PORTNAME/PROTO/PORT ENDPOINT …; saying it again replaces it. An
// endpoint is pod=[NAMESPACE/]NAME or an address, with any of ,at=ADDRESS ,not-ready ,serving ,terminating
// ,zone=ZONE ,node=NODE behind it.
func (w *world) slice(f []string) error {
	_ = w.remove("slice", f[1])
	s := EndpointSlice{Meta: meta("EndpointSlice", f[1], 0), Service: f[2], V6: f[3] == "6"}
	name, proto, port, err := portOf(f[4])
	if err != nil {
		return err
	}
	s.Ports = []EndpointPort{{Name: name, Protocol: proto, Port: port}}
	for _, x := range f[5:] {
		s.Endpoints = append(s.Endpoints, endpointOf(strings.Split(x, ","), s.V6))
	}
	w.cluster.Slices = append(w.cluster.Slices, s)
	return nil
}

func endpointOf(part []string, v6 bool) Endpoint {
	e := Endpoint{Address: netip.MustParseAddr("198.51.100.250")}
	if v6 {
		e.Address = netip.MustParseAddr("2001:db8:1::fa")
	}
	if pod, ok := strings.CutPrefix(part[0], "pod="); ok {
		e.Pod = &PodRef{Name: pod}
		if namespace, name, given := strings.Cut(pod, "/"); given {
			e.Pod = &PodRef{Namespace: namespace, Name: name}
		}
	} else {
		e.Address = netip.MustParseAddr(part[0])
	}
	yes, no := true, false
	switch {
	case slices.Contains(part, "not-ready"):
		e.Ready, e.Serving = &no, &no
	case slices.Contains(part, "serving"):
		e.Ready, e.Serving = &no, &yes
	case slices.Contains(part, "terminating"):
		e.Ready, e.Serving, e.Terminating = &no, &yes, &yes
	}
	if a := option(part, "at"); a != "" {
		e.Address = netip.MustParseAddr(a)
	}
	if z := option(part, "zone"); z != "" {
		e.HintZones = []string{z}
	}
	if n := option(part, "node"); n != "" {
		e.HintNodes = []string{n}
	}
	return e
}

// pool: [NAMESPACE/]NAME NETWORK [SUBNET …]; saying it again replaces it
func (w *world) pool(f []string) error {
	_ = w.remove("pool", f[1])
	p := FloatingIPPool{Meta: meta("FloatingIPPool", f[1], 0), Network: f[2]}
	for _, s := range f[3:] {
		p.Subnets = append(p.Subnets, netip.MustParsePrefix(s))
	}
	w.cluster.Pools = append(w.cluster.Pools, p)
	return nil
}

// configure: [node-ports] [shared=NAMESPACE/NAME] [public-pool=[PROJECT/]NAME]
func (w *world) configure(f []string) error {
	w.config.NodePorts = slices.Contains(f, "node-ports")
	w.config.PublicPool = fqName(option(f, "public-pool"))
	w.config.SharedServices = nil
	if s := option(f, "shared"); s != "" {
		w.config.SharedServices = []string{s}
	}
	return nil
}

// write puts the statuses of the last plan where everybody sees them.
func (w *world) write() error {
	for _, s := range w.last.Statuses {
		for i := range w.cluster.Services {
			if o := &w.cluster.Services[i]; o.UID == s.UID {
				o.Outside.Ingress = s.Addresses
			}
		}
	}
	return nil
}

func describeStatus(s *Status) string {
	out := "status " + s.Namespace + "/" + s.Name + ":"
	for _, a := range s.Addresses {
		out += " " + a.String()
	}
	return out
}

func describeBalancer(lb *southbound.LoadBalancer) string {
	s := fmt.Sprintf("lb %s %s", lb.Name, strings.Join(lb.Vips, ","))
	if len(lb.ExternalVips) > 0 {
		s += " external " + strings.Join(lb.ExternalVips, ",")
	}
	short := func(n string) string { return strings.TrimPrefix(n, "k8s-default-") }
	if home := short(lb.Home); home != "pod-network" {
		s += " home " + home
	}
	if !slices.Equal(lb.VirtualNetworks, []string{"k8s-default-pod-network"}) {
		s += " for"
		for _, n := range lb.VirtualNetworks {
			s += " " + short(n)
		}
	}
	for _, x := range []struct {
		said bool
		text string
	}{
		{lb.AffinitySeconds > 0, fmt.Sprintf("affinity %d", lb.AffinitySeconds)}, {lb.InternalLocal, "internal-local"},
		{lb.ExternalLocal, "external-local"}, {lb.HealthCheckPort > 0, fmt.Sprintf("health %d", lb.HealthCheckPort)},
	} {
		if x.said {
			s += " " + x.text
		}
	}
	for _, l := range lb.Listeners {
		s += fmt.Sprintf(" | %s/%d", strings.ToLower(ProtocolName(uint8(l.Protocol))), l.Port)
		if l.NodePort > 0 {
			s += fmt.Sprintf(" node %d", l.NodePort)
		}
		for _, m := range l.Members {
			s += " " + describeMember(m)
		}
	}
	return s
}

func describeMember(m *southbound.Member) string {
	s := fmt.Sprintf("%s:%d", strings.TrimPrefix(m.Name, "default/"), m.Port)
	switch {
	case m.Vmi != "":
		s += fmt.Sprintf("@%s(%d)", m.Node, m.Label)
	case m.Node != "":
		s += "@" + m.Node
	}
	if m.Draining {
		s += " draining"
	}
	for _, h := range slices.Concat(m.HintZones, m.HintNodes) {
		s += " hint:" + h
	}
	return s
}
