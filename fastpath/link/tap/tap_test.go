package tap

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/poll"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

const (
	chunks = 512
	larges = 16
)

var podMAC = [...][6]byte{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}

func run(t testing.TB, command string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// bed is two pods, each with a tap 192.0.2.1, .2 in a namespace of its own, and a Set.
type bed struct {
	testing.TB
	pool *frame.Pool
	mem  frame.Memory
	set  *Set
	ns   [2]string
}

func newBed(t testing.TB) *bed {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and taps")
	}
	pools := frame.NewPools(chunks, 1)
	b := &bed{TB: t, pool: pools[0], mem: make(frame.Memory, frame.AddLarge(pools, larges))}
	var err error
	if b.set, err = New(b.mem, b.pool); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.set.Close() })
	for i := range b.ns {
		b.ns[i] = fmt.Sprintf("tap%d-%d", os.Getpid(), i)
		b.device(i)
	}
	return b
}

// device makes the namespace of a pod with its tap, as package veth does, and adds its
// queue. Both ends know each other's address.
func (b *bed) device(i int) {
	b.Helper()
	ns, mac, other := b.ns[i], link6(podMAC[i]), link6(podMAC[1-i])
	run(b, "ip netns add "+ns)
	b.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	run(b, fmt.Sprintf(`ip -n %s tuntap add eth0 mode tap multi_queue vnet_hdr
		ip -n %s link set eth0 address %s addrgenmode none up && ip -n %s addr add 192.0.2.%d/24 dev eth0
		ip -n %s link set lo up
		ip -n %s neigh add 192.0.2.%d lladdr %s dev eth0 nud permanent`, ns, ns, mac, ns, i+1, ns, ns, 2-i, other))
	b.open(i)
}

func link6(m [6]byte) string { return net.HardwareAddr(m[:]).String() }

func (b *bed) open(i int) {
	b.Helper()
	fds, err := OpenQueues("/run/netns/"+b.ns[i], "eth0", 1)
	if err != nil {
		b.Fatal(err)
	}
	if err := b.set.Add(table.VifID(10+i), fds[0]); err != nil {
		b.Fatal(err)
	}
}

// relay hands what each pod sends to the other until done, and reports the largest
// packet and whether its checksum was left to us.
func (b *bed) relay(done func() bool) (largest int, partial bool) {
	b.Helper()
	var rx [256]frame.Desc
	sleeper, err := poll.New()
	if err != nil {
		b.Fatal(err)
	}
	defer sleeper.Close()
	sleeper.Add(b.set.FD())
	for !done() {
		n := b.set.Receive(rx[:])
		if n == 0 {
			sleeper.Wait(10 * time.Millisecond)
			continue
		}
		size := 0
		for _, d := range rx[:n] {
			if size == 0 {
				head := b.mem.Bytes(d)
				vif, ok := link.VifOf(head)
				if !ok || vif != 10 && vif != 11 {
					b.Fatalf("frame from vif %d", vif)
				}
				out := link.VifMAC(21 - vif)
				copy(head, podMAC[11-vif][:])
				copy(head[6:], out[:])
				partial = partial || frame.OffloadOf(d.Options).Partial()
			}
			if size += int(d.Len); d.Options&frame.Contd == 0 {
				largest, size = max(largest, size), 0
			}
		}
		if b.set.Transmit(rx[:n]) != n {
			b.Fatal("not all was taken")
		}
		b.set.Flush()
	}
	return largest, partial
}

// free checks that all buffers came home but the two that are ready for the next packet.
func (b *bed) free() {
	b.Helper()
	large := 0
	for _, ok := b.pool.GetLarge(); ok; _, ok = b.pool.GetLarge() {
		large++
	}
	if b.pool.Len() < chunks-1 || large < larges-1 {
		b.Errorf("%d of %d chunks and %d of %d large buffers are free", b.pool.Len(), chunks, large, larges)
	}
}

// both runs a command in each pod, the second once the first listens, and relays meanwhile.
func (b *bed) both(server, client string) (largest int, partial bool) {
	b.Helper()
	s := exec.Command("ip", append([]string{"netns", "exec", b.ns[1]}, strings.Fields(server)...)...)
	if err := s.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Process.Kill(); _ = s.Wait() }()
	done := make(chan string, 1)
	go func() {
		deadline := time.Now().Add(10 * time.Second)
		for {
			out, err := exec.Command("ip", append([]string{"netns", "exec", b.ns[0]}, strings.Fields(client)...)...).CombinedOutput()
			if err == nil || time.Now().After(deadline) {
				done <- fmt.Sprintf("%v %s", err, out)
				return
			}
		}
	}()
	report := ""
	largest, partial = b.relay(func() bool {
		select {
		case report = <-done:
			return true
		default:
			return false
		}
	})
	if !strings.HasPrefix(report, "<nil>") {
		b.Fatalf("%s: %s", client, report)
	}
	b.Log(report)
	return largest, partial
}

// TestBulk: large packets go from pod to pod whole, with no checksum in between.
func TestBulk(t *testing.T) {
	b := newBed(t)
	largest, partial := b.both("iperf3 -s -1", "iperf3 -c 192.0.2.2 -n 200M")
	if largest < 30000 || !partial {
		t.Errorf("largest packet %d bytes, checksums left to us: %v", largest, partial)
	}
	if s := b.set.Stats(); s.Malformed+s.Gone+s.Refused != 0 {
		t.Errorf("stats %+v", s)
	}
	b.free()
}

// TestPing: small packets fit a chunk; a sleeping reader wakes.
func TestPing(t *testing.T) {
	b := newBed(t)
	if largest, _ := b.both("sleep 100", "ping -c 20 -i 0.01 -W 2 192.0.2.2"); largest > 200 {
		t.Errorf("largest packet %d bytes", largest)
	}
	b.free()
}

// TestSuccessor: the interface outlives its queues; whoever opens them again goes on.
func TestSuccessor(t *testing.T) {
	b := newBed(t)
	b.both("sleep 100", "ping -c 1 -W 2 192.0.2.2")
	for i := range b.ns {
		if err := CloseQueues([]int{b.set.Remove(table.VifID(10 + i))}); err != nil {
			t.Fatal(err)
		}
	}
	run(t, fmt.Sprintf("ip -n %s addr show dev eth0 | grep -q 192.0.2.1", b.ns[0]))
	for i := range b.ns {
		b.open(i)
	}
	b.both("sleep 100", "ping -c 1 -W 2 192.0.2.2")
}

// TestGone: a tap that goes is noticed once, and nothing turns in vain.
func TestGone(t *testing.T) {
	b := newBed(t)
	b.both("sleep 100", "ping -c 1 -W 2 192.0.2.2")
	run(t, "ip -n "+b.ns[0]+" link del eth0")
	deadline := time.Now().Add(10 * time.Second)
	b.relay(func() bool { return b.set.Stats().Gone == 1 || time.Now().After(deadline) })
	if b.set.Stats().Gone != 1 {
		t.Fatal("the lost device was not noticed")
	}
	pfd := []unix.PollFd{{Fd: int32(b.set.FD()), Events: unix.POLLIN}}
	if n, _ := unix.Poll(pfd, 0); n != 0 {
		t.Error("the lost device is ready for ever")
	}
	addr, _ := b.pool.Get()
	f := build.Eth(build.IPv4("192.0.2.2", "192.0.2.1").UDP(1, 2).Bytes(), podMAC[0], link.VifMAC(10))
	n := copy(b.mem[addr+frame.Headroom:], f)
	b.set.Transmit([]frame.Desc{{Addr: addr + frame.Headroom, Len: uint32(n)}})
	if b.set.Stats().Refused == 0 {
		t.Error("a packet to the lost device was not counted")
	}
	b.free()
	if _, err := OpenQueues("/run/netns/"+b.ns[1], "eth7", 1); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a device that is not there: %v", err)
	}
	if _, err := OpenQueues("/run/netns/none", "eth0", 1); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a namespace that is not there: %v", err)
	}
}

// TestServes: a queue leads to a device of a namespace, until one of them is another.
func TestServes(t *testing.T) {
	b := newBed(t)
	path, fd := "/run/netns/"+b.ns[0], b.set.queue(10)
	if !Serves(fd, path) || Serves(fd, "/run/netns/"+b.ns[1]) || Serves(fd, "/run/netns/none") {
		t.Error("it is not known where a queue leads")
	}
	run(t, "ip -n "+b.ns[0]+" link set eth0 down name eth9")
	if !Serves(fd, path) {
		t.Error("it has another name, and still serves")
	}
	run(t, "ip -n "+b.ns[0]+" link del eth9")
	if Serves(fd, path) {
		t.Error("the device is gone")
	}
}

// feed adds a queue that is a socket, and returns its other end.
func feed(t *testing.T, s *Set, vif table.VifID) (fd int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(pair[1]) })
	if err := s.Add(vif, pair[0]); err != nil {
		t.Fatal(err)
	}
	return pair[1]
}

// TestFair: who always has large packets leaves others their share, also of the last
// large buffers; and a turn is not longer for it.
func TestFair(t *testing.T) {
	for _, larges := range []int{2, 64} {
		pools := frame.NewPools(chunks, 1)
		s, err := New(make(frame.Memory, frame.AddLarge(pools, larges)), pools[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		const greedy, modest = 10, 11
		first, second := feed(t, s, greedy), feed(t, s, modest)
		large, small := make([]byte, headerLen+50000), make([]byte, headerLen+100)
		got, most := map[uint32]int{}, 0
		var rx [256]frame.Desc
		const turns = 50
		for range turns {
			for err == nil {
				_, err = unix.Write(first, large)
			}
			if !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			if _, err = unix.Write(second, small); err != nil {
				t.Fatal(err)
			}
			bytes := 0
			for _, d := range rx[:s.Receive(rx[:])] {
				if vif, ok := link.VifOf(s.memory.Bytes(d)); ok {
					got[vif]++
				}
				bytes += int(d.Len)
				pools[0].Put(d.Addr)
			}
			most = max(most, bytes)
		}
		if got[modest] < turns-2 || got[greedy] < turns/2 {
			t.Errorf("%d large buffers, %d turns: %d packets of the modest, %d of the greedy", larges, turns, got[modest], got[greedy])
		}
		if most > quantum+2*frame.LargeSize {
			t.Errorf("%d bytes in one turn", most)
		}
	}
}

// TestHeaders: what goes to a tap says what was read from one.
func TestHeaders(t *testing.T) {
	tcp4 := build.Eth(build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "A").Payload(10).Bytes(), podMAC[0], podMAC[1])
	tcp6 := build.Eth(build.IPv6("2001:db8::1", "2001:db8::2").TCP(1, 2, "A").Payload(10).Bytes(), podMAC[0], podMAC[1])
	udp4 := build.Eth(build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(10).Bytes(), podMAC[0], podMAC[1])
	for _, c := range []struct {
		name  string
		o     frame.Offload
		frame []byte
		want  [headerLen]byte
	}{
		{"nothing", 0, tcp4, [headerLen]byte{}},
		{"large buffer", frame.OffloadLarge, tcp4, [headerLen]byte{}},
		{"checksum", frame.NewOffload(false, 34, 0), tcp4, [headerLen]byte{1, 0, 54, 0, 0, 0, 34, 0, 16, 0}},
		{"checksum, UDP", frame.NewOffload(true, 34, 0), udp4, [headerLen]byte{1, 0, 42, 0, 0, 0, 34, 0, 6, 0}},
		{"TSO", frame.NewOffload(false, 34, 1448), tcp4, [headerLen]byte{1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0}},
		{"TSO, IPv6", frame.NewOffload(false, 54, 1428), tcp6, [headerLen]byte{1, 4, 74, 0, 0x94, 5, 54, 0, 16, 0}},
		{"USO", frame.NewOffload(true, 34, 1000), udp4, [headerLen]byte{1, 5, 42, 0, 0xe8, 3, 34, 0, 6, 0}},
	} {
		var h [headerLen]byte
		putHeader(h[:], c.o, c.frame)
		if h != c.want {
			t.Errorf("%s: % x, want % x", c.name, h, c.want)
		}
		if o, _, _, ok := readHeader(h[:]); !ok || o != c.o&^frame.OffloadLarge {
			t.Errorf("%s: read back as %#x, %v", c.name, o, ok)
		}
	}
	for _, h := range [][]byte{
		{0, 1, 0, 0, 100, 0, 0, 0, 0, 0},      // to be cut, but complete
		{1, 1, 0, 0, 0, 0, 34, 0, 16, 0},      // into nothing
		{1, 0, 0, 0, 0, 0, 34, 0, 2, 0},       // neither TCP nor UDP
		{1, 0, 0, 0, 0, 0, 0xff, 0xff, 16, 0}, // where no header is
	} {
		if _, _, _, ok := readHeader(h); ok {
			t.Errorf("% x was believed", h)
		}
	}
}

// TestChecksumElsewhere: what cannot be passed on is finished on receipt.
func TestChecksumElsewhere(t *testing.T) {
	pools := frame.NewPools(chunks, 1)
	s := &Set{memory: make(frame.Memory, frame.AddLarge(pools, larges)), pool: pools[0], chunk: none, large: none}
	s.prepare()
	want := build.IPv6("2001:db8::1", "2001:db8::2").ICMP(128, 0, 7).Payload(6000).Bytes()
	var in packet.Info
	packet.ParseIP(want, 0, len(want), &in)
	f := build.Eth(bytes.Clone(want), podMAC[0], podMAC[1])
	// The field holds the sum of the pseudo-header: what FinishChecksum would need to
	// arrive at what is there.
	f[14+42], f[14+43] = 0, 0
	n := copy(s.memory[s.chunk+frame.Headroom:][:room], f)
	copy(s.memory[s.large:], f[n:])
	copy(s.memory[s.chunk+frame.Headroom-headerLen:], []byte{1, 0, 0, 0, 0, 0, 54, 0, 2, 0})
	var d [2]frame.Desc
	if got := s.take(10, len(f), d[:]); got != 2 || frame.OffloadOf(d[0].Options).Partial() {
		t.Fatalf("%d descriptors, %#x", got, d[0].Options)
	}
	got := append(bytes.Clone(s.memory.Bytes(d[0])), s.memory.Bytes(d[1])...)[14:]
	if sum := onesSum(got[40:]); sum != 0xffff {
		t.Errorf("the sum over the message is %#x", sum)
	}
}

func onesSum(b []byte) uint32 {
	sum := uint32(0)
	for i, c := range b {
		sum += uint32(c) << (8 * uint32(1-i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}
