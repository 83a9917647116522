package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/testbed"
)

// TestGarbageFrames sends broken and forbidden frames on every link of a node
// while a transfer runs: they are dropped by name, and nothing is lost.
func TestGarbageFrames(t *testing.T) {
	l := cluster(t)
	n := l.Nodes["node1"]
	x := startTransfers(t, l)
	before := dropsOf(t, n)
	frames := [][]byte{
		{},
		ethernet(0x0800, nil),
		ethernet(0x0800, []byte{0x45}),
		ethernet(0x0800, []byte{0x4f, 0, 0xff, 0xff, 0, 0, 0, 0, 64, 6, 0, 0, 10, 32, 0, 9, 10, 32, 0, 1}),
		ethernet(0x86dd, []byte{0x60, 0, 0, 0, 0xff, 0xff, 0, 0}),
		ethernet(0x0806, []byte{0, 1, 8, 0, 6, 4, 0, 1}),
		ethernet(0x8847, []byte{0, 0, 1, 64}),
		ethernet(0x1234, randomBytes(1400)),
		ethernet(0x0800, spoofed(l.Pod("web1").Four.AsSlice())),
	}
	for _, p := range []struct {
		place  *testbed.Place
		device string
	}{
		{l.Pod("client").Place, "eth0"},
		{l.Underlay, "node1"},
		{n.Place, "vhost0"},
	} {
		for _, f := range frames {
			if err := inject(p.place, p.device, f); err != nil {
				t.Fatalf("%s %s: %v", p.place.Name, p.device, err)
			}
		}
		for size := 1; size < 200; size += 7 { // tunnel packets cut anywhere
			if err := inject(p.place, p.device, ethernet(0x0800, tunnel(n.Address, size))); err != nil {
				t.Fatal(err)
			}
		}
	}
	allMove(t, x, patience)
	allFinish(t, x)
	moved := 0
	for name, count := range dropsOf(t, n) {
		if d := count - before[name]; d > 0 {
			t.Logf("%s: %d", name, d)
			moved++
		}
	}
	if moved < 3 {
		t.Errorf("only %d drop reasons moved", moved)
	}
}

func dropsOf(t *testing.T, n *testbed.Node) map[string]uint64 {
	t.Helper()
	d, err := n.Drops()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ethernet(kind uint16, payload []byte) []byte {
	head := []byte{0x00, 0x00, 0x5e, 0x00, 0x01, 0x00, 0x02, 0, 0, 0, 0, 1, byte(kind >> 8), byte(kind)}
	return append(head, payload...)
}

// spoofed is a UDP packet from another pod's address.
func spoofed(src []byte) []byte {
	b := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, src[0], src[1], src[2], src[3], 10, 32, 0, 1, 0, 7, 0, 7, 0, 8, 0, 0}
	putIPSum(b)
	return b
}

// tunnel is an MPLSoUDP packet to the node from nobody, cut to size bytes.
func tunnel(node string, size int) []byte {
	dst := net.ParseIP(node).To4()
	b := make([]byte, 200)
	copy(b, []byte{0x45, 0, 0, 200, 0, 0, 0, 0, 64, 17, 0, 0, 172, 31, 0, 200, dst[0], dst[1], dst[2], dst[3], 0xc0, 0, 0x19, 0xeb, 0, 180, 0, 0, 0, 1, 1, 64})
	putIPSum(b)
	return b[:size]
}

func putIPSum(b []byte) {
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	b[10], b[11] = byte(^sum>>8), byte(^sum)
}

// inject writes a raw frame to a device; frames shorter than a header are
// padded, as a NIC would.
func inject(p *testbed.Place, device string, frame []byte) error {
	if len(frame) < 14 {
		frame = append(frame, make([]byte, 14-len(frame))...)
	}
	return p.Do(func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index})
	})
}

// TestBadManifests gives the controller manifests that cannot be right: it says
// so in its log, and goes on with the rest.
func TestBadManifests(t *testing.T) {
	l := cluster(t)
	for _, c := range []struct{ name, text, says string }{
		{"duplicate VIP", "apiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: thief}\nspec: {clusterIP: " + webVIP +
			", clusterIPs: [" + webVIP + "], ports: [{port: 8888}]}\n", webVIP},
		{"not YAML", "kind: [Pod\n", "99-bad.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			offset := logSize(t, l.Controller)
			if err := l.WriteManifest("99-bad.yaml", c.text); err != nil {
				t.Fatal(err)
			}
			defer l.RemoveManifest("99-bad.yaml")
			err := testbed.Until(context.Background(), 10*time.Second, func() error {
				text, err := os.ReadFile(l.Controller.Log)
				if err == nil && !strings.Contains(string(text[offset:]), c.says) {
					err = fmt.Errorf("no word of %q in:\n%s", c.says, text[offset:])
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			if seen := sample(t, l.Pod("client").Place, webVIP+":8888", 40); len(seen) != len(everyServer) {
				t.Errorf("40 connections are answered by %v", seen)
			}
		})
	}
}

func logSize(t *testing.T, d *testbed.Daemon) int {
	t.Helper()
	text, err := os.ReadFile(d.Log)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}
