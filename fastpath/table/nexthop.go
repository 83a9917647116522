package table

import (
	"net/netip"
	"slices"

	"github.com/vragent/vragent/fastpath/packet"
)

// Out says how packets leave by a next hop: in one byte, where Type is a text.
type Out uint8

const (
	OutNowhere Out = iota // it discards, or leads to others
	OutVif                // encap, host: in a frame to the vif To
	OutTunnel             // tunnel, resolve: wrapped, by the fabric vif To
)

// NH is a next hop as workers read it, resolved down to header bytes.
type NH struct {
	NextHop
	Out  Out
	To   *VifEntry // nil: nothing leaves
	Fits int       // bytes: the largest IP packet that can leave by it
	// Gen changes whenever something changes that a flow decided under this
	// next hop may depend on; see Builder. 0 only for one that does not exist.
	Gen uint32
	// Usable: a packet sent here can leave. False for a tunnel whose neighbour
	// is not known and for a composite no member of which takes new flows.
	Usable     bool
	Src4, Dst4 [4]byte // tunnel: outer addresses
	// Eth is the frame header of encap, host and tunnel. Its EtherType is IPv4's.
	Eth [14]byte

	// Set by resolve.
	keys      []uint64 // composite: keys of the members that take new flows
	positions []uint16 // and their positions
}

// Pick chooses the member for a new flow: the one with the highest score among
// those that are neither holes nor draining nor unusable (rendezvous hashing).
// A member that goes takes only its own flows along; one that comes takes its
// share from all. Positions do not matter. -1: there is none.
func (n *NH) Pick(hash uint64) int {
	best, at := uint64(0), -1
	for i, key := range n.keys {
		score := mix64(hash ^ key*0x9E3779B97F4A7C15)
		if at < 0 || score > best || score == best && key < n.keys[at] {
			best, at = score, i
		}
	}
	if at < 0 {
		return -1
	}
	return int(n.positions[at])
}

// mix64 is the finalizer of MurmurHash3 in Stafford's variant 13: a bijection
// every input bit of which flips every output bit with probability 1/2.
func mix64(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 27
	x *= 0x94D049BB133111EB
	return x ^ x>>31
}

// Listener returns what serves (proto, port). A composite that is the whole of a
// VIP is its own listener, for its Proto and Port alone.
func (n *NH) Listener(proto uint8, port uint16) (Listener, bool) {
	switch n.Type {
	case NHComposite:
		return Listener{Proto: proto, Port: port, NH: n.ID}, n.Port == 0 || n.Port == port && n.Proto == proto
	case NHService:
		for i := range n.Listeners {
			if l := &n.Listeners[i]; l.Port == port && l.Proto == proto {
				return *l, true
			}
		}
	}
	return Listener{}, false
}

// newNH copies n, so that nothing the caller keeps can change it, and writes
// IPv4 addresses one way.
func newNH(n *NextHop) *NH {
	c := *n
	c.Type = constant(n.Type, NHDiscard, NHEncap, NHTunnel, NHComposite, NHService, NHVRFTranslate, NHHost, NHResolve)
	c.Sip, c.Dip = n.Sip.Unmap(), n.Dip.Unmap()
	c.Members = slices.Clone(n.Members)
	for i := range c.Members {
		m := &c.Members[i]
		m.DNAT = netip.AddrPortFrom(m.DNAT.Addr().Unmap(), m.DNAT.Port())
	}
	c.Listeners = slices.Clone(n.Listeners)
	return &NH{NextHop: c}
}

// constant returns the one of known that text equals, rather than a copy that was decoded
// for each object.
func constant[T ~string](text T, known ...T) T {
	if i := slices.Index(known, text); i >= 0 {
		return known[i]
	}
	return text
}

func equalNH(a, b *NextHop) bool {
	return a.ID == b.ID && a.Type == b.Type && a.Vif == b.Vif && a.VRF == b.VRF &&
		a.Sip == b.Sip && a.Dip == b.Dip && a.SrcMAC == b.SrcMAC && a.DstMAC == b.DstMAC && a.MTU == b.MTU &&
		a.Proto == b.Proto && a.Port == b.Port && a.Affinity == b.Affinity &&
		slices.Equal(a.Members, b.Members) && slices.Equal(a.Listeners, b.Listeners)
}

// resolve derives from the other tables what workers read of n.
func (n *NH) resolve(t *Tables) {
	n.Usable = n.Type != NHDiscard
	n.Out, n.To, n.Fits = OutNowhere, nil, maxMTU
	switch n.Type {
	case NHEncap, NHHost:
		if v := t.Vif(n.Vif); v != nil {
			n.Out, n.To, n.Fits = OutVif, v, v.MTU
			n.Eth = ethernet(v.MAC, RouterMAC)
		}
	case NHTunnel, NHResolve:
		n.Out, n.To = OutTunnel, t.Vif(n.Vif)
		if n.Type == NHTunnel {
			n.Fits = n.MTU - packet.TunnelLen
		}
		n.Usable = n.Type == NHTunnel && n.DstMAC != MAC{}
		n.Src4, n.Dst4 = packet.AddrFrom(n.Sip).As4(), packet.AddrFrom(n.Dip).As4()
		n.Eth = ethernet(n.DstMAC, n.SrcMAC)
	case NHComposite:
		n.resolveMembers(t)
	case NHService:
		n.Usable = slices.ContainsFunc(n.Listeners, func(l Listener) bool { return t.NH(l.NH).Usable || t.NH(l.OutsideNH).Usable })
	}
}

func (n *NH) resolveMembers(t *Tables) {
	n.keys, n.positions = nil, nil
	for i, m := range n.Members {
		if m.NH == 0 || m.Draining {
			continue
		}
		if to := t.NH(m.NH); to.Usable && mayBeMember(to.Type) {
			n.keys = append(n.keys, m.Key)
			n.positions = append(n.positions, uint16(i))
		}
	}
	n.Usable = len(n.keys) > 0
}

// mayBeMember reports whether next hops of type t send packets somewhere
// themselves, rather than choose.
func mayBeMember(t NHType) bool {
	return t == NHEncap || t == NHTunnel || t == NHResolve || t == NHHost
}

func ethernet(dst, src MAC) (h [14]byte) {
	copy(h[0:], dst[:])
	copy(h[6:], src[:])
	h[12], h[13] = 0x08, 0x00
	return h
}
