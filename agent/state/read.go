package state

import (
	"fmt"
	"net/netip"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/controller/southbound"
	"github.com/vragent/vragent/fastpath/table"
)

// What comes from the controller is checked once, here: compile takes it as it
// is, and the fast path refuses a whole change for one wrong value.

func unicast(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is no address", text)
	}
	a = a.Unmap()
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, fmt.Errorf("%v is not the address of one interface", a)
	}
	return a, nil
}

func tunnelAddr(text string) (netip.Addr, error) {
	a, err := unicast(text)
	if err != nil {
		return a, fmt.Errorf("tunnel address: %w", err)
	}
	if !a.Is4() {
		return a, fmt.Errorf("tunnel address %v: tunnels run over IPv4", a)
	}
	return a, nil
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is no prefix", text)
		}
		out = append(out, p)
	}
	return out, nil
}

func unicasts(what string, texts []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, text := range texts {
		a, err := unicast(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func label(l uint32) (table.Label, error) {
	if l < table.MinLabel || l > table.MaxLabel {
		return 0, fmt.Errorf("label %d is not one of %d to %d", l, table.MinLabel, table.MaxLabel)
	}
	return table.Label(l), nil
}

// transport protocols, by IANA number: those that have ports.
func transport(proto, port uint32) (uint8, uint16, error) {
	switch {
	case proto != 6 && proto != 17 && proto != 132:
		return 0, 0, fmt.Errorf("protocol %d has no ports", proto)
	case port < 1 || port > 65535:
		return 0, 0, fmt.Errorf("%d is no port", port)
	}
	return uint8(proto), uint16(port), nil
}

func portMaps(list []*southbound.PortMap) ([]compile.PortMap, error) {
	var out []compile.PortMap
	for _, m := range list {
		vip, err := unicast(m.GetVip())
		if err != nil {
			return nil, fmt.Errorf("port map: %w", err)
		}
		proto, port, err := transport(m.GetProtocol(), m.GetPort())
		if err != nil {
			return nil, fmt.Errorf("port map of %v: %w", vip, err)
		}
		_, target, err := transport(m.GetProtocol(), m.GetTarget())
		if err != nil {
			return nil, fmt.Errorf("port map of %v: target: %w", vip, err)
		}
		out = append(out, compile.PortMap{VIP: vip, Proto: proto, Port: port, Target: target})
	}
	return out, nil
}

func readListener(m *southbound.Listener) (compile.Listener, error) {
	proto, port, err := transport(m.GetProtocol(), m.GetPort())
	if err != nil {
		return compile.Listener{}, err
	}
	l := compile.Listener{Proto: proto, Port: port}
	if m.GetNodePort() != 0 {
		if _, l.NodePort, err = transport(m.GetProtocol(), m.GetNodePort()); err != nil {
			return l, fmt.Errorf("node port: %w", err)
		}
	}
	for _, w := range m.GetMembers() {
		member, err := readMember(w)
		if err != nil {
			return l, fmt.Errorf("member %s: %w", w.GetName(), err)
		}
		l.Members = append(l.Members, member)
	}
	return l, nil
}

func readMember(w *southbound.Member) (compile.Member, error) {
	m := compile.Member{
		UUID: w.GetUuid(), Name: w.GetName(), VMI: w.GetVmi(), Node: w.GetNode(), Draining: w.GetDraining(),
		HintZones: w.GetHintZones(), HintNodes: w.GetHintNodes(),
	}
	var err error
	if m.Address, err = unicast(w.GetAddress()); err != nil {
		return m, err
	}
	if m.UUID == "" || w.GetPort() < 1 || w.GetPort() > 65535 {
		return m, fmt.Errorf("uuid %q, port %d: something is missing", m.UUID, w.GetPort())
	}
	m.Port = uint16(w.GetPort())
	if m.VMI == "" {
		return m, nil
	}
	if m.Tunnel, err = tunnelAddr(w.GetTunnelAddress()); err != nil {
		return m, err
	}
	m.Label, err = label(w.GetLabel())
	return m, err
}
