package table

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vragent/vragent/fastpath/packet"
)

// Limits of an MTU in bytes: what every IPv4 link must carry (RFC 791), and
// the largest IP packet.
const (
	minMTU = 68
	maxMTU = 65535
)

// check refuses objects that are wrong whatever else there is. References are
// checked when everything of the delta is in place.

func (v *Vif) check() error {
	switch {
	case v.ID == 0 || v.ID > MaxID:
		return fmt.Errorf("the id must be 1 to %d", MaxID)
	case v.Name == "":
		return errors.New("it has no name")
	case v.Ifindex <= 0:
		return fmt.Errorf("ifindex %d is not an interface", v.Ifindex)
	case v.MTU < minMTU || v.MTU > maxMTU:
		return fmt.Errorf("MTU %d, want %d to %d", v.MTU, minMTU, maxMTU)
	}
	for _, a := range v.Addrs {
		if err := checkUnicast("address", a); err != nil {
			return err
		}
	}
	if err := v.checkCluster(); err != nil {
		return err
	}
	switch v.Kind {
	case VifFabric:
		return nil
	case VifHost, VifVirtual:
		if v.VRF == 0 || v.NH == 0 {
			return errors.New("a host or virtual vif needs a VRF and a next hop")
		}
		if v.MAC == (MAC{}) || v.MAC[0]&1 != 0 {
			return fmt.Errorf("%v is not the MAC of one station", v.MAC)
		}
		return nil
	}
	return fmt.Errorf("kind %q is unknown", v.Kind)
}

// checkCluster refuses cluster addresses that do not stand for one own address each.
func (v *Vif) checkCluster() error {
	if len(v.ClusterAddrs) > 0 && v.Kind != VifVirtual {
		return fmt.Errorf("a %s vif has no cluster addresses", v.Kind)
	}
	for i, a := range v.ClusterAddrs {
		if err := checkUnicast("cluster address", a); err != nil {
			return err
		}
		if _, ok := v.ofFamily(a); !ok {
			return fmt.Errorf("cluster address %v stands for no address of its family", a)
		}
		for _, b := range v.Addrs {
			if b.Unmap() == a.Unmap() {
				return fmt.Errorf("cluster address %v is its own address as well", a)
			}
		}
		for _, b := range v.ClusterAddrs[:i] {
			if b.Unmap().Is4() == a.Unmap().Is4() {
				return fmt.Errorf("cluster addresses %v and %v are of one family", b, a)
			}
		}
	}
	return nil
}

// ofFamily returns the vif's first address of a's family.
func (v *Vif) ofFamily(a netip.Addr) (netip.Addr, bool) {
	for _, own := range v.Addrs {
		if own.Unmap().Is4() == a.Unmap().Is4() {
			return own, true
		}
	}
	return netip.Addr{}, false
}

func (v *VRF) check() error {
	switch {
	case v.ID == 0 || v.ID > MaxID:
		return fmt.Errorf("the id must be 1 to %d", MaxID)
	case v.Router4.IsValid() && !v.Router4.Unmap().Is4():
		return fmt.Errorf("router4 %v is not an IPv4 address", v.Router4)
	case v.Router6.IsValid() && v.Router6.Unmap().Is4():
		return fmt.Errorf("router6 %v is not an IPv6 address", v.Router6)
	}
	return nil
}

func (n *NextHop) check() error {
	if n.ID == 0 && n.Type != NHDiscard {
		return errors.New("id 0 is reserved for the one that discards")
	}
	if n.ID > MaxID {
		return fmt.Errorf("the id must be 0 to %d", MaxID)
	}
	switch n.Type {
	case NHDiscard:
		return nil
	case NHEncap, NHHost:
		if n.Vif == 0 {
			return errors.New("it needs a vif")
		}
		return nil
	case NHTunnel, NHResolve:
		return n.checkTunnel()
	case NHComposite:
		return n.checkComposite()
	case NHService:
		return n.checkService()
	case NHVRFTranslate:
		if n.VRF == 0 {
			return errors.New("it needs a VRF")
		}
		return nil
	}
	return fmt.Errorf("type %q is unknown", n.Type)
}

func (n *NextHop) checkTunnel() error {
	for _, a := range []struct {
		name string
		addr netip.Addr
	}{{"sip", n.Sip}, {"dip", n.Dip}} {
		if !a.addr.Unmap().Is4() {
			return fmt.Errorf("%s %v is not an IPv4 address; tunnels run over IPv4", a.name, a.addr)
		}
		if err := checkUnicast(a.name, a.addr); err != nil {
			return err
		}
	}
	if n.Type == NHResolve {
		return nil
	}
	const least = minMTU + packet.TunnelLen
	if n.MTU < least || n.MTU > maxMTU {
		return fmt.Errorf("MTU %d, want %d to %d", n.MTU, least, maxMTU)
	}
	if n.Vif == 0 {
		return errors.New("it needs the fabric vif")
	}
	return nil
}

func (n *NextHop) checkComposite() error {
	if (n.Proto == 0) != (n.Port == 0) {
		return fmt.Errorf("protocol %d and port %d: want both or none", n.Proto, n.Port)
	}
	if n.Affinity > MaxAffinity {
		return fmt.Errorf("affinity of %d seconds, want at most %d", n.Affinity, MaxAffinity)
	}
	if len(n.Members) > MaxMembers {
		return fmt.Errorf("%d members, want at most %d", len(n.Members), MaxMembers)
	}
	keys := make(map[uint64]int, len(n.Members))
	for i, m := range n.Members {
		if m.NH == 0 {
			continue
		}
		if j, twice := keys[m.Key]; twice {
			return fmt.Errorf("members %d and %d have the same key %#x", j, i, m.Key)
		}
		keys[m.Key] = i
		if m.Label != 0 && !validLabel(m.Label) {
			return fmt.Errorf("member %d: label %d, want %d to %d", i, m.Label, MinLabel, MaxLabel)
		}
		if m.DNAT.IsValid() && (m.DNAT.Port() == 0 || m.DNAT.Addr().IsUnspecified() || m.DNAT.Addr().IsMulticast()) {
			return fmt.Errorf("member %d: cannot translate to %v", i, m.DNAT)
		}
	}
	return nil
}

func (n *NextHop) checkService() error {
	type key struct {
		proto uint8
		port  uint16
	}
	seen := make(map[key]struct{}, len(n.Listeners))
	for _, l := range n.Listeners {
		if l.Proto == 0 || l.Port == 0 {
			return fmt.Errorf("listener %d/%s: it needs a protocol and a port", l.Port, packet.ProtoName(l.Proto))
		}
		if _, twice := seen[key{l.Proto, l.Port}]; twice {
			return fmt.Errorf("listener %d/%s appears twice", l.Port, packet.ProtoName(l.Proto))
		}
		seen[key{l.Proto, l.Port}] = struct{}{}
	}
	return nil
}

func (r *Route) check() error {
	switch {
	case !r.Prefix.IsValid():
		return errors.New("it has no prefix")
	case r.Prefix.Addr().Is4In6():
		return errors.New("write IPv4 prefixes as IPv4")
	case r.Prefix != r.Prefix.Masked():
		return fmt.Errorf("host bits are set; want %v", r.Prefix.Masked())
	case r.Label != 0 && !validLabel(r.Label):
		return fmt.Errorf("label %d, want %d to %d", r.Label, MinLabel, MaxLabel)
	}
	return nil
}

func (m *PortMap) check() error {
	switch {
	case m.Proto != packet.ProtoTCP && m.Proto != packet.ProtoUDP && m.Proto != packet.ProtoSCTP:
		return fmt.Errorf("protocol %d has no ports to map", m.Proto)
	case m.Port == 0 || m.Target == 0:
		return fmt.Errorf("port %d to %d: 0 is not a port", m.Port, m.Target)
	case m.VIP.Unmap().Is4() != m.Fixed.Unmap().Is4():
		return fmt.Errorf("%v and %v are of different families", m.VIP, m.Fixed)
	}
	if err := checkUnicast("vip", m.VIP); err != nil {
		return err
	}
	return checkUnicast("fixed", m.Fixed)
}

func validLabel(l Label) bool { return l >= MinLabel && l <= MaxLabel }

// checkUnicast refuses what cannot be the address of one interface.
func checkUnicast(name string, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("it has no %s", name)
	case a.Zone() != "":
		return fmt.Errorf("%s %v has a zone", name, a)
	case a.IsUnspecified() || a.IsMulticast() || a.Unmap() == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s %v is not unicast", name, a)
	}
	return nil
}
