package testbed

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containernetworking/plugins/pkg/ns"
)

// Place is a network namespace, and the environment commands have in it. Only
// the network differs from the caller's world: mounts (bpffs) stay visible,
// which `ip netns exec` would hide.
type Place struct {
	Name  string   // client, node1
	Netns string   // /run/netns/vragent-<lab>-<name>
	Env   []string // beside the caller's own
	bin   string
}

const netnsDir = "/run/netns"

func (l *Lab) place(name string) *Place {
	return &Place{
		Name:  name,
		Netns: filepath.Join(netnsDir, "vragent-"+l.Name+"-"+name),
		bin:   l.Bin,
	}
}

// Do calls f on a thread that is in the namespace. Sockets f opens and
// processes f starts stay there.
func (p *Place) Do(f func() error) error {
	space, err := ns.GetNS(p.Netns)
	if err != nil {
		return fmt.Errorf("enter %s: %w", p.Name, err)
	}
	defer space.Close()
	return space.Do(func(ns.NetNS) error { return f() })
}

// Command prepares a program of the lab or of the system to be started by Start.
func (p *Place) Command(ctx context.Context, argv ...string) *exec.Cmd {
	name := argv[0]
	if own := filepath.Join(p.bin, name); !strings.Contains(name, "/") && isFile(own) {
		name = own
	}
	c := exec.CommandContext(ctx, name, argv[1:]...)
	c.Env = append(os.Environ(), p.Env...)
	return c
}

// Start starts the command in the place.
func (p *Place) Start(c *exec.Cmd) error { return p.Do(c.Start) }

// Run runs a command in the place and returns what it printed. The error holds
// the command line and its last words.
func (p *Place) Run(ctx context.Context, argv ...string) (string, error) {
	c := p.Command(ctx, argv...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := p.Start(c); err != nil {
		return "", fmt.Errorf("%s: %s: %w", p.Name, strings.Join(argv, " "), err)
	}
	if err := c.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: %s: %w: %s", p.Name, strings.Join(argv, " "), err, lastLines(out.String(), 5))
	}
	return out.String(), nil
}

// Dial connects from the place. Addresses must be literal, so that the socket
// is made by the calling thread.
func (p *Place) Dial(d *net.Dialer, network, address string) (c net.Conn, err error) {
	err = p.Do(func() error {
		var err error
		c, err = d.Dial(network, address)
		return err
	})
	return c, err
}

// Listen listens for TCP in the place.
func (p *Place) Listen(network, address string) (l net.Listener, err error) {
	err = p.Do(func() error {
		var err error
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a UDP or raw IP socket in the place.
func (p *Place) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = p.Do(func() error {
		var err error
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Inode identifies the namespace.
func (p *Place) Inode() (uint64, error) { return inode(p.Netns) }

func inode(path string) (uint64, error) {
	s, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return s.Sys().(*syscall.Stat_t).Ino, nil
}

func isFile(path string) bool {
	s, err := os.Stat(path)
	return err == nil && s.Mode().IsRegular()
}

// lastLines cuts all but the last n lines, for error messages.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
