package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// chain is one of ours.
type chain struct {
	table, name string
	parents     []string // chains that jump to it first; none: another one of ours does
	match       []string // of these jumps
	// rules are written as iptables -S lists them, without "-A name": what differs
	// in a letter is written again.
	rules []string
}

// firewall is iptables of one family.
type firewall struct {
	*iptables.IPTables
	restore string // the program that writes chains as a whole
}

// families opens iptables of both families; the second is missing where the
// kernel has no IPv6.
func families() (four, six *firewall, err error) {
	if four, err = openFirewall(iptables.ProtocolIPv4, "iptables-restore"); err != nil {
		return nil, nil, err
	}
	if six, err = openFirewall(iptables.ProtocolIPv6, "ip6tables-restore"); err != nil {
		return nil, nil, err
	}
	if _, err := six.ListChains("nat"); err != nil {
		six = nil
	}
	return four, six, nil
}

func openFirewall(proto iptables.Protocol, restore string) (*firewall, error) {
	t, err := iptables.New(iptables.IPFamily(proto), iptables.Timeout(5))
	if err != nil {
		return nil, fmt.Errorf("firewall: %w (the iptables package is needed: iptables, ip6tables and their -restore programs, in PATH)", err)
	}
	path, err := exec.LookPath(restore)
	if err != nil {
		return nil, fmt.Errorf("firewall: %w (the iptables package is needed: %s is a part of it)", err, restore)
	}
	return &firewall{t, path}, nil
}

// ensure makes the chains hold exactly their rules, all at once, and their parents
// jump to them.
func (f *firewall) ensure(chains []chain) error {
	var differ []chain
	for _, c := range chains {
		have, err := f.lines(c)
		if err != nil {
			return err
		}
		if have == nil || !slices.Equal(have, c.lines()) {
			differ = append(differ, c)
		}
	}
	if len(differ) > 0 {
		if err := f.write(differ); err != nil {
			return err
		}
	}
	for _, c := range chains {
		for _, parent := range c.parents {
			if err := f.InsertUnique(c.table, parent, 1, c.jump()...); err != nil {
				return fmt.Errorf("firewall: jump from %s to %s: %w", parent, c.name, err)
			}
		}
	}
	return nil
}

func (c *chain) jump() []string { return append(slices.Clone(c.match), "-j", c.name) }

func (c *chain) lines() []string {
	out := make([]string, len(c.rules))
	for i, r := range c.rules {
		out[i] = "-A " + c.name + " " + r
	}
	return out
}

// lines lists the rules of a chain; nil: there is no such chain.
func (f *firewall) lines(c chain) ([]string, error) {
	have, err := f.List(c.table, c.name)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("firewall: list chain %s: %w", c.name, err)
	}
	return append([]string{}, have[min(1, len(have)):]...), nil // the first line declares the chain
}

// missing: iptables says many things about a chain that is not there, and ends
// with 1.
func missing(err error) bool {
	e, ok := errors.AsType[*iptables.Error](err)
	return ok && e.ExitStatus() == 1
}

// write replaces chains, each table at one stroke; chains that are not named stay.
func (f *firewall) write(chains []chain) error {
	text := &bytes.Buffer{}
	for len(chains) > 0 {
		table := chains[0].table
		n := slices.IndexFunc(chains, func(c chain) bool { return c.table != table })
		if n < 0 {
			n = len(chains)
		}
		fmt.Fprintf(text, "*%s\n", table)
		for _, c := range chains[:n] { // first all names: one jumps to another
			fmt.Fprintf(text, ":%s - [0:0]\n", c.name)
		}
		for _, c := range chains[:n] {
			for _, line := range c.lines() {
				fmt.Fprintln(text, line)
			}
		}
		fmt.Fprintln(text, "COMMIT")
		chains = chains[n:]
	}
	c := exec.Command(f.restore, "--noflush", "--wait", "5")
	c.Stdin = text
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("firewall: %s: %w: %s", f.restore, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// remove deletes chains and the jumps to them, in this order: a chain that
// jumps to another one of ours stands before it.
func (f *firewall) remove(chains []chain) error {
	for _, c := range chains {
		have, err := f.lines(c)
		if err != nil {
			return err
		}
		if have == nil {
			continue
		}
		for _, parent := range c.parents {
			if err := f.DeleteIfExists(c.table, parent, c.jump()...); err != nil {
				return fmt.Errorf("firewall: remove the jump from %s to %s: %w", parent, c.name, err)
			}
		}
		if err := f.ClearAndDeleteChain(c.table, c.name); err != nil {
			return fmt.Errorf("firewall: remove chain %s: %w", c.name, err)
		}
	}
	return nil
}
