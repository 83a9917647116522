package xsk_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link/poll"
	"github.com/vragent/vragent/fastpath/link/xsk"
)

const chunks = 8192 // of each worker

// wire is a veth in a namespace of its own: sockets on every queue of x1, a packet
// socket on x0.
type wire struct {
	t       testing.TB
	ns      string
	index   [2]int // of x0, x1
	umem    *xsk.UMEM
	pools   []*frame.Pool
	sockets []*xsk.Socket
	raw     int // AF_PACKET on x0
}

func run(t testing.TB, command string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// in runs fn on a thread of its own inside the namespace. fn may not call Fatal.
func (w *wire) in(fn func() error) {
	w.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with us
		f, err := os.Open("/run/netns/" + w.ns)
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

// newWire opens sockets on all queues of x1. peer, if any, is an XDP verdict for
// what arrives at x0.
func newWire(t testing.TB, queues int, peer ...int32) *wire {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace and AF_XDP sockets")
	}
	w := &wire{t: t, ns: fmt.Sprintf("xsk%d", os.Getpid()), raw: -1, pools: frame.NewPools(chunks, queues)}
	run(t, "ip netns add "+w.ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", w.ns).Run() })
	q := fmt.Sprintf("mtu 65535 numtxqueues %d numrxqueues %d", queues, queues)
	run(t, fmt.Sprintf("ip -n %s link add x0 %s type veth peer name x1 %s", w.ns, q, q))
	run(t, fmt.Sprintf("nsenter --net=/run/netns/%s sh -c 'for i in x0 x1; do ip link set $i addrgenmode none arp off; echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done; ethtool -K x0 tx off'", w.ns))
	run(t, fmt.Sprintf("ip -n %s link set x0 up; ip -n %s link set x1 up", w.ns, w.ns))
	w.in(func() error { return w.open(queues, peer) })
	t.Cleanup(func() {
		unix.Close(w.raw)
		for _, s := range w.sockets {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := w.umem.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *wire) open(queues int, peer []int32) (err error) {
	for i, name := range []string{"x0", "x1"} {
		dev, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		w.index[i] = dev.Index
	}
	if w.umem, err = xsk.NewUMEM(chunks * queues); err != nil {
		return err
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(queues)})
	if err != nil {
		return err
	}
	w.t.Cleanup(func() { m.Close() })
	if err := w.attach(w.index[1], asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 16, asm.Word), // rx_queue_index
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Imm(asm.R3, 1), // XDP_DROP
		asm.FnRedirectMap.Call(),
		asm.Return(),
	}); err != nil {
		return err
	}
	for _, verdict := range peer {
		if err := w.attach(w.index[0], asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}); err != nil {
			return err
		}
	}
	for i := range queues {
		cfg := xsk.Config{Ifname: "x1", Queue: i, Pool: w.pools[i], UMEM: w.umem}
		if i > 0 {
			cfg.Shared = w.sockets[0]
		}
		s, err := xsk.Open(cfg)
		if err != nil {
			return err
		}
		w.sockets = append(w.sockets, s)
		if err := m.Put(uint32(i), uint32(s.FD())); err != nil {
			return err
		}
	}
	if w.raw, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
	for _, opt := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(w.raw, unix.SOL_SOCKET, opt, 64<<20); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(w.raw, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return err
	}
	return unix.Bind(w.raw, &unix.SockaddrLinklayer{Protocol: all, Ifindex: w.index[0]})
}

func (w *wire) attach(ifindex int, code asm.Instructions) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Flags: unix.BPF_F_XDP_HAS_FRAGS, Instructions: code})
	if err != nil {
		return err
	}
	defer p.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		return err
	}
	w.t.Cleanup(func() { l.Close() })
	return nil
}

// send puts a frame on the wire at x0.
func (w *wire) send(f []byte) {
	w.t.Helper()
	if _, err := unix.Write(w.raw, f); err != nil {
		w.t.Fatalf("send %d bytes: %v", len(f), err)
	}
}

// read returns the next frame that arrived at x0.
func (w *wire) read() []byte {
	w.t.Helper()
	b := make([]byte, 1<<17)
	var n int
	w.await("a frame at x0", func() bool {
		var err error
		n, err = unix.Read(w.raw, b)
		return err == nil
	})
	return b[:n]
}

// receive returns the descriptors of the next packets that arrive at a socket.
func (w *wire) receive(s *xsk.Socket, b []frame.Desc) []frame.Desc {
	w.t.Helper()
	n := 0
	w.await("a packet at a socket", func() bool { n = s.Receive(b); return n > 0 })
	return b[:n]
}

func (w *wire) await(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// put lays a frame out in chunks of pool, as the kernel does.
func (w *wire) put(pool *frame.Pool, f []byte) []frame.Desc {
	w.t.Helper()
	var run []frame.Desc
	for first := true; first || len(f) > 0; first = false {
		base, ok := pool.Get()
		if !ok {
			w.t.Fatal("no free chunk")
		}
		n := copy(w.umem.Memory.Chunk(base)[frame.Headroom:], f)
		f = f[n:]
		run = append(run, frame.Desc{Addr: base + frame.Headroom, Len: uint32(n), Options: frame.Contd})
	}
	run[len(run)-1].Options = 0
	return run
}

func (w *wire) bytes(run []frame.Desc) []byte {
	var b []byte
	for _, d := range run {
		b = append(b, w.umem.Memory.Bytes(d)...)
	}
	return b
}

// sleeper sleeps on a socket.
func (w *wire) sleeper(s *xsk.Socket) *poll.Sleeper {
	w.t.Helper()
	p, err := poll.New()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
	p.Add(s.FD())
	return p
}

// total counts all chunks: free ones and those in rings.
func (w *wire) total() int {
	n := 0
	for _, p := range w.pools {
		n += p.Len()
	}
	for _, s := range w.sockets {
		n += s.Held()
	}
	return n
}

// udp makes an IPv4 UDP frame of size bytes, different for every seed.
func udp(size, seed int) []byte {
	f := make([]byte, size)
	for i := range f {
		f[i] = byte(i*31 + seed)
	}
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0})
	binary.BigEndian.PutUint16(f[16:], uint16(size-14))
	copy(f[20:], []byte{0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(f[34:], uint16(1000+seed))
	return f
}
