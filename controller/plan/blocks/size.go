package blocks

import (
	"net/netip"
	"slices"
)

// A node gets another block when this share of its addresses is needed.
const growAt, growOf = 7, 8

// shareBits leaves blocks for 1<<shareBits nodes in a subnet of a network's own.
const shareBits = 3

// reserveFrom is how many addresses a block has at least for a node to get one
// ahead of need.
const reserveFrom = 7

// capacity counts the addresses of a block that are handed out: all but the
// first (ipam.Block).
func capacity(p netip.Prefix) uint64 {
	host := p.Addr().BitLen() - p.Bits()
	if host == 0 {
		return 1
	}
	return 1<<min(host, 32) - 1
}

// enough tells whether blocks serve that many addresses, with a reserve where
// blocks are large enough to keep one. With a margin of 2 the need could double.
func enough(held []Lease, need int, margin uint64) bool {
	var sum uint64
	reserve := false
	for _, l := range held {
		c := capacity(l.Prefix)
		sum += c
		reserve = reserve || c >= reserveFrom
	}
	if !reserve {
		return sum >= uint64(max(need, 1))
	}
	return uint64(need)*growOf*margin < sum*growAt
}

// length is the prefix length of a block of a network in that subnet. A block
// of two addresses would serve one: then each address is a block.
func (p *planner) length(network string, subnet netip.Prefix) int {
	bits := p.Bits4
	if subnet.Addr().Is6() {
		bits = p.Bits6
	}
	if Space(network) == "" {
		return max(bits, subnet.Bits())
	}
	bits = max(bits, subnet.Bits()+shareBits)
	if bits >= subnet.Addr().BitLen()-1 {
		return subnet.Addr().BitLen()
	}
	return bits
}

// free finds the lowest block that nobody holds: at first one that leaves alone
// what pods ask for by address, and the other networks' blocks on the node.
func (p *planner) free(n Network, h Holder, v6 bool) (netip.Prefix, bool) {
	avoid := func(b netip.Prefix) bool {
		return p.asked.overlaps(n.Name, b) ||
			Space(n.Name) != "" && slices.ContainsFunc(p.onNode[h.Node], func(l Lease) bool { return l.Prefix.Overlaps(b) })
	}
	for _, avoid := range []func(netip.Prefix) bool{avoid, func(netip.Prefix) bool { return false }} {
		for _, subnet := range n.Subnets {
			if subnet.Addr().Is6() == v6 {
				if b, found := p.search(n.Name, subnet, avoid); found {
					return b, true
				}
			}
		}
	}
	return netip.Prefix{}, false
}

func (p *planner) search(network string, subnet netip.Prefix, avoid func(netip.Prefix) bool) (netip.Prefix, bool) {
	length := p.length(network, subnet)
	at := place{Space(network), subnet}
	a := p.next[at]
	if _, begun := p.next[at]; !begun {
		a = subnet.Masked().Addr()
	}
	passed := false // something free, which is to be avoided
	for ; a.IsValid() && subnet.Contains(a); a = after(a, length) {
		b := netip.PrefixFrom(a, length)
		if p.Table.overlaps(network, b) || p.ended.overlaps(network, b) {
			continue
		}
		if !passed {
			p.next[at], passed = a, true
		}
		if !avoid(b) {
			return b, true
		}
	}
	if !passed {
		p.next[at] = a
	}
	return netip.Prefix{}, false
}

// after is the first address behind the block of that length at a; the zero
// Addr behind the last one.
func after(a netip.Addr, length int) netip.Addr {
	b := a.AsSlice()
	for i, add := (length-1)/8, uint(1)<<(7-(length-1)%8); i >= 0; i-- {
		sum := uint(b[i]) + add
		b[i], add = byte(sum), sum>>8
		if add == 0 {
			next, _ := netip.AddrFromSlice(b)
			return next
		}
	}
	return netip.Addr{}
}
