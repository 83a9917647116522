package kernel

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// Our chains. Rules of others are never touched; removing the chains removes us.
const (
	chainPost    = "VRAGENT-POSTROUTING" // in nat, from POSTROUTING
	chainForward = "VRAGENT-FORWARD"     // in filter, from FORWARD
)

// Rules are what the host's firewall must do for pods.
type Rules struct {
	Host string // the host's interface
	// Subnets are those of all networks, pods' and services'. What comes from them and leaves the
	// cluster takes the node's address.
	Subnets    []netip.Prefix
	Masquerade bool
}

// EnsureRules writes the chains, both families. It replaces the content of a chain
// only when it differs.
func EnsureRules(r Rules) error {
	for _, v4 := range []bool{true, false} {
		t, err := tables(v4)
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		var post [][]string
		for _, p := range r.Subnets {
			if p.Addr().Is4() == v4 && r.Masquerade {
				post = append(post, masquerade(r, p)...)
			}
		}
		accept := [][]string{{"-i", r.Host, "-j", "ACCEPT"}, {"-o", r.Host, "-j", "ACCEPT"}}
		if err := ensureChain(t, "nat", "POSTROUTING", chainPost, post); err != nil {
			return err
		}
		if err := ensureChain(t, "filter", "FORWARD", chainForward, accept); err != nil {
			return err
		}
	}
	return nil
}

// masquerade translates what a network sends outside: not what goes to networks,
// and not what goes back through the host's interface.
func masquerade(r Rules, from netip.Prefix) (rules [][]string) {
	for _, to := range r.Subnets {
		if to.Addr().Is4() == from.Addr().Is4() {
			rules = append(rules, []string{"-s", from.String(), "-d", to.String(), "-j", "RETURN"})
		}
	}
	return append(rules, []string{"-s", from.String(), "!", "-o", r.Host, "-j", "MASQUERADE"})
}

// RemoveRules deletes the chains and the jumps to them.
func RemoveRules() error {
	for _, v4 := range []bool{true, false} {
		t, err := tables(v4)
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		for _, c := range [][3]string{{"nat", "POSTROUTING", chainPost}, {"filter", "FORWARD", chainForward}} {
			if err := t.DeleteIfExists(c[0], c[1], "-j", c[2]); err != nil {
				continue // the chain it jumps to was never made
			}
			if err := t.ClearAndDeleteChain(c[0], c[2]); err != nil {
				return fmt.Errorf("firewall: remove chain %s: %w", c[2], err)
			}
		}
	}
	return nil
}

// tables opens iptables of a family; nil for IPv6 where the kernel has none.
func tables(v4 bool) (*iptables.IPTables, error) {
	proto := iptables.ProtocolIPv4
	if !v4 {
		proto = iptables.ProtocolIPv6
	}
	t, err := iptables.New(iptables.IPFamily(proto), iptables.Timeout(5))
	if err != nil {
		return nil, fmt.Errorf("firewall: %w (the iptables package is needed for masquerading)", err)
	}
	if _, err := t.ListChains("nat"); err != nil && !v4 {
		return nil, nil
	}
	return t, nil
}

// ensureChain makes the chain hold exactly these rules, and parent jump to it first.
func ensureChain(t *iptables.IPTables, table, parent, chain string, rules [][]string) error {
	if exists, err := t.ChainExists(table, chain); err != nil {
		return fmt.Errorf("firewall: chain %s: %w", chain, err)
	} else if !exists {
		if err := t.NewChain(table, chain); err != nil {
			return fmt.Errorf("firewall: make chain %s: %w", chain, err)
		}
	}
	same, err := holds(t, table, chain, rules)
	if err != nil {
		return err
	}
	if !same {
		if err := t.ClearChain(table, chain); err != nil {
			return fmt.Errorf("firewall: clear chain %s: %w", chain, err)
		}
		for _, r := range rules {
			if err := t.Append(table, chain, r...); err != nil {
				return fmt.Errorf("firewall: rule %v of %s: %w", r, chain, err)
			}
		}
	}
	if err := t.InsertUnique(table, parent, 1, "-j", chain); err != nil {
		return fmt.Errorf("firewall: jump from %s to %s: %w", parent, chain, err)
	}
	return nil
}

// holds reports whether the chain has these rules, in this order, and no others.
func holds(t *iptables.IPTables, table, chain string, rules [][]string) (bool, error) {
	have, err := t.List(table, chain)
	if err != nil {
		return false, fmt.Errorf("firewall: list chain %s: %w", chain, err)
	}
	if len(have)-1 != len(rules) { // the first line declares the chain
		return false, nil
	}
	for i, r := range rules {
		if have[i+1] == "-A "+chain+" "+strings.Join(r, " ") {
			continue // as we wrote it
		}
		if ok, err := t.Exists(table, chain, r...); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}
