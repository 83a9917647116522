// Package blocks decides which blocks of addresses nodes hold: it leases what
// pods will need and gives back what nobody uses. It owns no state: Plan is a
// function of its Input, part of which the last Plan returned. It does not hand
// out addresses (ipam), and nothing is written here.
package blocks

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// Lease gives a block of a network's addresses to a node.
type Lease struct {
	Network string
	Node    string
	Prefix  netip.Prefix
}

// Space names the addresses that a network's are among: no two leases of one
// space overlap. The networks of VirtualNetworks, whose names have a colon, have
// one each; all others share one.
func Space(network string) string {
	if strings.Contains(network, ":") {
		return network
	}
	return ""
}

// Sorted is a copy in order, without repetition.
func Sorted(in []Lease) []Lease {
	out := slices.Clone(in)
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}

func compare(a, b Lease) int {
	return cmp.Or(cmp.Compare(Space(a.Network), Space(b.Network)), comparePrefix(a.Prefix, b.Prefix),
		cmp.Compare(a.Network, b.Network), cmp.Compare(a.Node, b.Node))
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Check refuses leases that cannot be: two of one space that overlap, a prefix
// with host bits, a name that is missing.
func Check(leases []Lease) error {
	sorted := slices.Clone(leases)
	slices.SortFunc(sorted, compare)
	for i, l := range sorted {
		switch {
		case !l.Prefix.IsValid() || l.Prefix != l.Prefix.Masked():
			return fmt.Errorf("lease of node %q: %v is not a prefix", l.Node, l.Prefix)
		case l.Node == "" || l.Network == "":
			return fmt.Errorf("lease of %v: node or network is missing", l.Prefix)
		case i > 0 && clash(sorted[i-1], l):
			return fmt.Errorf("leases of %v to node %s and of %v to node %s overlap",
				sorted[i-1].Prefix, sorted[i-1].Node, l.Prefix, l.Node)
		}
	}
	return nil
}

// clash is for neighbours in order: a block that holds another comes before it.
func clash(a, b Lease) bool {
	return Space(a.Network) == Space(b.Network) && a.Prefix.Overlaps(b.Prefix)
}

// Table finds leases by address.
type Table struct {
	spaces map[string]*bart.Table[Lease]
}

// NewTable holds all of the leases; of several for one prefix of a space, the last one.
func NewTable(leases []Lease) *Table {
	t := &Table{map[string]*bart.Table[Lease]{}}
	for _, l := range leases {
		t.insert(l)
	}
	return t
}

// Of is the lease that covers an address of a network, whatever network of the
// same space the lease is for.
func (t *Table) Of(network string, a netip.Addr) (Lease, bool) {
	space := t.spaces[Space(network)]
	if space == nil {
		return Lease{}, false
	}
	return space.Lookup(a)
}

func (t *Table) insert(l Lease) {
	name := Space(l.Network)
	if t.spaces[name] == nil {
		t.spaces[name] = &bart.Table[Lease]{}
	}
	t.spaces[name].Insert(l.Prefix, l)
}

func (t *Table) overlaps(network string, p netip.Prefix) bool {
	space := t.spaces[Space(network)]
	return space != nil && space.OverlapsPrefix(p)
}
