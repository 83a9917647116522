package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// buildNetwork makes the namespaces of the nodes, the underlay and the outside
// host, and joins them:
//
//	node1 eth0 172.31.0.11 ══╗                        ╔══ eth0 198.51.100.99 outside
//	node2 eth0 172.31.0.12 ══╩═ br0 172.31.0.1  underlay  198.51.100.1 ══╝
//
// The underlay routes between the two subnets, as a data centre's router does;
// it knows no pod address.
func (l *Lab) buildNetwork(ctx context.Context) error {
	l.Underlay, l.Outside = l.place("underlay"), l.place("outside")
	l.Underlay.Env = []string{"VRCONTROLLER_CONFIG=" + l.controllerFile()}
	places := []*Place{l.Underlay, l.Outside}
	for i, name := range l.Config.Nodes {
		n := &Node{
			Place:   l.place(name),
			Address: fmt.Sprintf("172.31.0.%d", 11+i),
			dir:     filepath.Join(l.RunDir, name),
			state:   filepath.Join(l.StateDir, name),
		}
		n.Env = []string{"VRAGENT_RUN_DIR=" + n.dir, "VRAGENT_CONFIG=" + n.configFile()}
		l.Nodes[name] = n
		places = append(places, n.Place)
	}
	for _, p := range places {
		if err := addNamespace(ctx, p.Netns); err != nil {
			return err
		}
		if err := p.duplicateAddressDetection(false); err != nil {
			return err
		}
	}
	if err := l.connect(ctx); err != nil {
		return err
	}
	for _, p := range places { // what is made from now on is not ours
		if err := p.duplicateAddressDetection(true); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) connect(ctx context.Context) error {
	if err := l.buildUnderlay(ctx); err != nil {
		return err
	}
	if err := l.connectOutside(ctx); err != nil {
		return err
	}
	for i, name := range l.Config.Nodes {
		if err := l.connectNode(ctx, l.Nodes[name], 11+i); err != nil {
			return err
		}
	}
	return nil
}

// duplicateAddressDetection is for links made later. The underlay does without:
// it would be deaf to IPv6 for its first two seconds (RFC 4862 section 5.4).
func (p *Place) duplicateAddressDetection(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	// Without accept_dad a link-local address is there at once; with no transmits
	// alone it still waits up to a second (RFC 4862 section 5.4.2).
	return p.Sysctl(map[string]string{"net/ipv6/conf/default/dad_transmits": value, "net/ipv6/conf/default/accept_dad": value})
}

func (l *Lab) buildUnderlay(ctx context.Context) error {
	return l.Underlay.configure(ctx, true,
		"link add br0 type bridge",
		fmt.Sprintf("link set br0 mtu %d up", l.MTU),
		"addr add "+routerAddress+"/24 dev br0",
		"addr add 2001:db8:31::1/64 dev br0 nodad",
	)
}

func (l *Lab) connectOutside(ctx context.Context) error {
	err := l.Underlay.configure(ctx, true,
		"link add outside type veth peer name eth0 netns "+l.Outside.base(),
		fmt.Sprintf("link set outside mtu %d up", l.MTU),
		"addr add 198.51.100.1/24 dev outside",
		"addr add 2001:db8:100::1/64 dev outside nodad",
	)
	if err != nil {
		return err
	}
	return l.Outside.configure(ctx, false,
		fmt.Sprintf("link set eth0 mtu %d up", l.MTU),
		"addr add "+OutsideAddress+"/24 dev eth0",
		"addr add "+OutsideSix+"/64 dev eth0 nodad",
		"route add default via 198.51.100.1",
		"-6 route add default via 2001:db8:100::1",
	)
}

func (l *Lab) connectNode(ctx context.Context, n *Node, last int) error {
	err := l.Underlay.configure(ctx, true,
		fmt.Sprintf("link add %s type veth peer name eth0 netns %s", n.Name, n.base()),
		fmt.Sprintf("link set %s mtu %d master br0 up", n.Name, l.MTU),
	)
	if err != nil {
		return err
	}
	// A node forwards: kubeadm asks for it before anything is installed.
	return n.configure(ctx, true,
		fmt.Sprintf("link set eth0 mtu %d up", l.MTU),
		fmt.Sprintf("addr add %s/24 dev eth0", n.Address),
		fmt.Sprintf("addr add 2001:db8:31::%d/64 dev eth0 nodad", last),
		"route add default via "+routerAddress,
		"-6 route add default via 2001:db8:31::1",
	)
}

// base is the name `ip` knows the namespace by.
func (p *Place) base() string { return filepath.Base(p.Netns) }

// Configure runs commands of ip(8) in the place; those of IPv6 begin with "-6".
func (p *Place) Configure(ctx context.Context, lines ...string) error {
	return p.configure(ctx, false, lines...)
}

// configure runs ip commands in the place, and makes it a router if asked to.
func (p *Place) configure(ctx context.Context, forward bool, lines ...string) error {
	// Two families cannot mix in one batch: -6 lines are told apart.
	for _, six := range []bool{false, true} {
		var batch []string
		for _, line := range lines {
			rest, is6 := strings.CutPrefix(line, "-6 ")
			if is6 == six {
				batch = append(batch, rest)
			}
		}
		if err := p.ip(ctx, six, batch); err != nil {
			return err
		}
	}
	if !forward {
		return nil
	}
	return p.Sysctl(map[string]string{
		"net/ipv4/ip_forward":          "1",
		"net/ipv6/conf/all/forwarding": "1",
	})
}

func (p *Place) ip(ctx context.Context, six bool, batch []string) error {
	if len(batch) == 0 {
		return nil
	}
	args := []string{"-n", p.base(), "-batch", "-"}
	if six {
		args = append([]string{"-6"}, args...)
	}
	c := exec.CommandContext(ctx, "ip", args...)
	c.Stdin = strings.NewReader(strings.Join(batch, "\n") + "\n")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: ip: %w: %s", p.Name, err, lastLines(out.String(), 3))
	}
	return nil
}

// Sysctl writes values below /proc/sys, as this place sees it.
func (p *Place) Sysctl(values map[string]string) error {
	return p.Do(func() error {
		for key, value := range values {
			if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
		}
		return nil
	})
}

func addNamespace(ctx context.Context, path string) error {
	name := filepath.Base(path)
	for _, args := range [][]string{{"netns", "add", name}, {"-n", name, "link", "set", "lo", "up"}} {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

func deleteNamespace(path string) error {
	out, err := exec.Command("ip", "netns", "del", filepath.Base(path)).CombinedOutput()
	if err != nil && !errors.Is(statError(path), os.ErrNotExist) {
		return fmt.Errorf("delete namespace %s: %w: %s", filepath.Base(path), err, out)
	}
	return nil
}

func statError(path string) error {
	_, err := os.Stat(path)
	return err
}

// namespaces lists the paths of the lab's namespaces that exist.
func (l *Lab) namespaces() ([]string, error) {
	return filepath.Glob(filepath.Join(netnsDir, "vragent-"+l.Name+"-*"))
}
