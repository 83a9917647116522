package ecmp

import (
	"net/netip"
	"strings"

	"github.com/vragent/vragent/fastpath/packet"
)

// Member is one position of an ECMP composite, as the agent says it: one backend pod.
type Member struct {
	NH    NextHopID `json:"nh"`              // encap when local, tunnel when remote, host when DNAT is set; 0: hole
	Label Label     `json:"label,omitempty"` // tunnel: the VMI's label on its node
	// Key is the member's identity, equal on all nodes and after restarts: it
	// alone decides which flows choose this member (rendezvous hash).
	Key  uint64 `json:"key"`
	Name string `json:"name,omitempty"` // namespace/pod, for people
	// Draining members keep their flows and take no new ones.
	Draining bool `json:"draining,omitempty"`
	// DNAT is set for backends that are not VMIs: this node translates and
	// sends through the host vif.
	DNAT netip.AddrPort `json:"dnat,omitzero"`
}

// New copies list. No member takes new flows before Open.
func New(list []Member) (c Composite) {
	if len(list) == 0 {
		return c
	}
	var names strings.Builder
	names.Grow(nameBytes(list))
	c.Members = make([]MemberEntry, len(list))
	for i := range list {
		from := &list[i]
		names.WriteString(from.Name)
		c.Members[i] = MemberEntry{NH: from.NH, Label: from.Label, Key: from.Key, nameEnd: uint32(names.Len()), Draining: from.Draining}
		if !from.DNAT.IsValid() {
			continue
		}
		if c.dnats == nil {
			c.dnats = make([]dnat, len(list))
		}
		c.dnats[i] = newDNAT(from.DNAT)
	}
	c.names = names.String()
	return c
}

func nameBytes(list []Member) (n int) {
	for i := range list {
		n += len(list[i].Name)
	}
	return n
}

// newDNAT writes addresses one way: IPv4 as such, IPv6 without a zone. A port without an
// address is nothing.
func newDNAT(to netip.AddrPort) dnat {
	if !to.IsValid() {
		return dnat{}
	}
	return dnat{packet.AddrFrom(to.Addr()), to.Port(), true}
}

// Equal reports whether c is what New makes of list.
func (c *Composite) Equal(list []Member) bool {
	if len(c.Members) != len(list) {
		return false
	}
	for i := range list {
		m, other := &c.Members[i], &list[i]
		if m.NH != other.NH || m.Label != other.Label || m.Key != other.Key || m.Draining != other.Draining || c.MemberName(i) != other.Name {
			return false
		}
		var to dnat
		if c.dnats != nil {
			to = c.dnats[i]
		}
		if to != newDNAT(other.DNAT) {
			return false
		}
	}
	return true
}

// List returns the members as they were said. Names share one text.
func (c *Composite) List() []Member {
	if len(c.Members) == 0 {
		return nil
	}
	list := make([]Member, len(c.Members))
	for i := range list {
		m := &c.Members[i]
		list[i] = Member{NH: m.NH, Label: m.Label, Key: m.Key, Name: c.MemberName(i), Draining: m.Draining}
		if to, port, ok := c.DNAT(i); ok {
			list[i].DNAT = netip.AddrPortFrom(to.Netip(), port)
		}
	}
	return list
}
