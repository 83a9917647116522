package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/bench/load/result"
)

// TestTemplateChecksums fills in ports as the program does, and adds up.
func TestTemplateChecksums(t *testing.T) {
	for _, c := range []struct {
		name string
		ip   int
		l4   int // bytes of transport and payload
		at   int // of the spread in the transport
		sum  int
		tcp  bool
	}{
		{name: "udp4", ip: ipv4, l4: 30, at: udp, sum: 6},
		{name: "udp6", ip: ipv6, l4: 10, at: udp, sum: 6},
		{name: "udp4 odd", ip: ipv4, l4: 31, at: udp, sum: 6},
		{name: "syn4", ip: ipv4, l4: tcp, at: 4, sum: 16, tcp: true},
		{name: "syn6", ip: ipv6, l4: tcp, at: 4, sum: 16, tcp: true},
	} {
		f := make([]byte, ethernet+c.ip+c.l4)
		for i := range f {
			f[i] = byte(i * 7)
		}
		proto, header := byte(unix.IPPROTO_UDP), f[ethernet:]
		if c.tcp {
			proto = unix.IPPROTO_TCP
		}
		if header[0], header[6] = 0x60, proto; c.ip == ipv4 {
			header[0], header[9] = 0x45, proto
		}
		tm := template{frame: f, port: ethernet + c.ip, spread: ethernet + c.ip + c.at}
		tm.finish(c.sum)
		for _, port := range []uint16{0, 1, 1024, 0x00ff, 0xff00, 65535} {
			binary.BigEndian.PutUint16(f[tm.port:], port)
			binary.BigEndian.PutUint16(f[tm.spread:], ^port)
			addresses := header[8:40]
			if c.ip == ipv4 {
				addresses = header[12:20]
				if fold(header[:ipv4]) != 0xffff {
					t.Errorf("%s: wrong header checksum", c.name)
				}
			}
			if got := fold(addresses, []byte{0, proto, 0, byte(c.l4)}, f[tm.port:]); got != 0xffff {
				t.Errorf("%s: port %d sums up to %#x", c.name, port, got)
			}
		}
	}
}

// pair makes two namespaces joined by a veth whose end b has NAPI.
func pair(t *testing.T) (a, b string) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and runs BPF programs")
	}
	a, b = fmt.Sprintf("load%da", os.Getpid()), fmt.Sprintf("load%db", os.Getpid())
	for _, ns := range []string{a, b} {
		command(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { command(t, "ip", "netns", "del", ns) })
	}
	command(t, "ip", "link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b)
	for i, ns := range []string{a, b} {
		command(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "eth0")
		command(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "eth0", "nodad")
		command(t, "ip", "-n", ns, "link", "set", "eth0", "up")
	}
	command(t, "ip", "netns", "exec", b, "ethtool", "-K", "eth0", "gro", "on")
	return a, b
}

func command(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// within runs fn on a thread of its own in a namespace and does not wait.
func within(ns string, fn func() (*result.Result, error)) chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		f, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			var r *result.Result
			if r, err = fn(); err == nil && r.Count == 0 {
				err = fmt.Errorf("nothing counted: %+v", r)
			}
		}
		done <- err
	}()
	return done
}

func TestFloodArrives(t *testing.T) {
	a, b := pair(t)
	for _, c := range []struct {
		name string
		make func(context.Context, *options) (*result.Result, error)
		to   string
	}{
		{"udp4", udpFlood, "192.0.2.2:5001"}, {"udp6", udpFlood, "[2001:db8::2]:5001"}, {"syn4", synFlood, "192.0.2.2:5001"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			sunk := within(b, func() (*result.Result, error) {
				return sink(ctx, &options{dev: "eth0", port: 5001, duration: 50 * time.Millisecond, gap: patience})
			})
			o := &options{to: netip.MustParseAddrPort(c.to), size: 64, flows: 100, duration: 200 * time.Millisecond}
			if err := <-within(a, func() (*result.Result, error) { return c.make(ctx, o) }); err != nil {
				t.Error(err)
			}
			if err := <-sunk; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFloodIsValid lets a socket judge: it sees only datagrams whose checksums
// are right.
func TestFloodIsValid(t *testing.T) {
	a, b := pair(t)
	for network, to := range map[string]string{"udp4": "192.0.2.2:5001", "udp6": "[2001:db8::2]:5001"} {
		bound := make(chan struct{})
		seen := within(b, func() (*result.Result, error) {
			defer close(bound)
			conn, err := net.ListenPacket(network, ":5001")
			if err != nil {
				return nil, err
			}
			bound <- struct{}{}
			defer conn.Close()
			return &result.Result{Count: 1}, countPorts(conn)
		})
		<-bound
		o := &options{to: netip.MustParseAddrPort(to), size: 64, flows: 100, duration: 200 * time.Millisecond}
		if err := <-within(a, func() (*result.Result, error) { return udpFlood(t.Context(), o) }); err != nil {
			t.Error(err)
		}
		if err := <-seen; err != nil {
			t.Error(err)
		}
	}
}

// countPorts wants every of the flood's hundred source ports.
func countPorts(conn net.PacketConn) error {
	ports := map[uint16]bool{}
	buf := make([]byte, 100)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	for len(ports) < 100 {
		_, from, err := conn.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("%d of 100 ports seen: %w", len(ports), err)
		}
		if p := netip.MustParseAddrPort(from.String()).Port(); p < firstPort+100 && p >= firstPort {
			ports[p] = true
		}
	}
	return nil
}
