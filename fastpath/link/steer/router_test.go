package steer_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/poll"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/link/xsk"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

const chunksPerWorker = 4096

// router stands in for the fast path: it forwards between the pods of a node by
// destination address, each worker what it receives.
type router struct {
	node    *node
	umem    *xsk.UMEM
	pools   []*frame.Pool
	sockets []*xsk.Socket

	stop context.CancelFunc
	done sync.WaitGroup

	vip, backend netip.AddrPort // connections to vip go to backend; unset: none
	fab          *fabric        // where remote pods are
	slots        []offload.Slot // of marked frames
	turn         sync.Mutex     // held while packets are on their way: the turn of a slot begins between two batches

	forwarded, unknown, astray, multi, broken, largest, marked atomic.Uint64

	// Of openSockets.
	waiting []frame.Desc
	queue   int // of waiting
}

// newRouter opens the sockets from a thread inside the node.
func newRouter(n *node, s interface{ SetSocket(int, int) error }) (*router, error) {
	r := &router{node: n, pools: frame.NewPools(chunksPerWorker, n.Queues)}
	var err error
	if r.umem, err = xsk.NewUMEM(chunksPerWorker * n.Queues); err != nil {
		return nil, err
	}
	for i := range n.Queues {
		cfg := xsk.Config{Ifindex: n.Inner, Queue: i, Pool: r.pools[i], UMEM: r.umem}
		if i > 0 {
			cfg.Shared = r.sockets[0]
		}
		x, err := xsk.Open(cfg)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.sockets = append(r.sockets, x)
		if err := s.SetSocket(i, x.FD()); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	return r, nil
}

func (r *router) close() error {
	var err error
	for _, x := range r.sockets {
		err = errors.Join(err, x.Close())
	}
	return errors.Join(err, r.umem.Close())
}

func startRouter(t testing.TB, n *node, s *steer.Steer, with ...func(*router)) *router {
	t.Helper()
	var r *router
	var err error
	in(t, n.NS, func() { r, err = newRouter(n, s) })
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range with {
		set(r)
	}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	for i := range r.sockets {
		r.done.Go(func() { r.work(ctx, i) })
	}
	t.Cleanup(func() { r.halt(t) })
	return r
}

// halt stops the workers and closes the sockets; a second call does nothing.
func (r *router) halt(t testing.TB) {
	if r.stop == nil {
		return
	}
	r.stop()
	r.stop = nil
	r.done.Wait()
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

type target struct {
	id     uint32
	mac    [6]byte
	remote bool
}

func (r *router) work(ctx context.Context, worker int) {
	to := map[netip.Addr]target{}
	for _, p := range r.node.Pods {
		to[p.Addr] = target{uint32(p.Vif.ID), p.Vif.MAC, p.Remote}
		to[p.Addr6] = to[p.Addr]
	}
	l, b := r.sockets[worker], make([]frame.Desc, 256)
	out := make([]frame.Desc, 0, 256)
	turns := map[uint16]*turn{}
	pin(worker)
	sleeper, err := poll.New()
	if err != nil {
		panic(err) // out of descriptors
	}
	defer sleeper.Close()
	sleeper.Add(l.FD())
	for ctx.Err() == nil {
		n := l.Receive(b)
		if n == 0 {
			l.Flush()
			sleeper.Wait(5 * time.Millisecond)
			continue
		}
		out = out[:0]
		r.turn.Lock()
		for i := 0; i < n; {
			k := 1
			for b[i+k-1].Options&frame.Contd != 0 {
				k++
			}
			m := offload.MarkOf(r.umem.Memory.Bytes(b[i]))
			at := r.up(turns, m)
			if r.route(worker, b[i:i+k], to) {
				if at != nil {
					at.down++
					f := r.umem.Memory.Bytes(b[i])
					id, _ := link.VifOf(f[6:])
					source := m.Down(id)
					copy(f[6:], source[:])
				}
				out = append(out, b[i:i+k]...)
			} else {
				for _, d := range b[i : i+k] {
					r.pools[worker].Put(d.Addr)
				}
			}
			i += k
		}
		r.push(l, out)
		r.push(l, r.fences(worker, turns))
		r.turn.Unlock()
	}
}

func (r *router) push(l link.Link, out []frame.Desc) {
	for sent := 0; sent < len(out); {
		sent += l.Transmit(out[sent:])
		l.Flush()
	}
}

// turn is what a worker has seen of a slot's.
type turn struct {
	offload.Mark
	up, down uint32
	dirty    bool
}

// up counts a frame that came up with a mark; nil: it has none that counts.
func (r *router) up(turns map[uint16]*turn, m offload.Mark) *turn {
	if m.Slot == 0 || r.slots[m.Slot].Turn != uint32(m.Turn) {
		return nil
	}
	at := turns[m.Slot]
	if at == nil || at.Turn != m.Turn {
		at = &turn{Mark: m}
		turns[m.Slot] = at
	}
	at.up++
	at.dirty = true
	r.marked.Add(1)
	return at
}

// fences are those behind what was sent.
func (r *router) fences(worker int, turns map[uint16]*turn) (out []frame.Desc) {
	for _, at := range turns {
		if !at.dirty {
			continue
		}
		at.dirty = false
		if addr, ok := r.pools[worker].Get(); ok {
			f := offload.Fence{Mark: at.Mark, Up: at.up, Down: at.down}
			f.Put(r.umem.Memory.Chunk(addr))
			out = append(out, frame.Desc{Addr: addr, Len: offload.FenceLen})
		}
	}
	return out
}

// pin keeps the goroutine on a processor, as a worker; the thread ends with it.
func pin(cpu int) {
	runtime.LockOSThread()
	only := unix.CPUSet{}
	only.Set(cpu % runtime.NumCPU())
	unix.SchedSetaffinity(0, &only)
}

// route sends a packet on its way; false drops it.
func (r *router) route(worker int, d []frame.Desc, to map[netip.Addr]target) bool {
	if _, ok := link.VifOf(r.umem.Memory.Bytes(d[0])); !ok {
		r.unknown.Add(1)
		return false
	}
	var tun packet.Tunnel
	if packet.ParseTunnel(r.umem.Memory.Bytes(d[0]), r.total(d), &tun) == packet.FaultNone {
		d[0].Addr += packet.TunnelLen
		d[0].Len -= packet.TunnelLen
		f := r.umem.Memory.Bytes(d[0])
		binary.BigEndian.PutUint16(f[12:], packet.TypeIPv4)
		if f[14]>>4 == 6 {
			binary.BigEndian.PutUint16(f[12:], packet.TypeIPv6)
		}
	}
	f, total := r.umem.Memory.Bytes(d[0]), r.total(d)
	var in packet.Info
	if packet.ParseIP(f, 14, total-14, &in) != packet.FaultNone {
		r.unknown.Add(1)
		return false
	}
	if packet.Owner(in.Hash(), r.node.Queues) != worker {
		r.astray.Add(1)
	}
	if len(d) > 1 {
		r.multi.Add(1)
	} else if build.Verify(f[14:]) != nil {
		r.broken.Add(1)
	}
	if uint64(total) > r.largest.Load() {
		r.largest.Store(uint64(total))
	}
	after := r.translate(in.Tuple)
	t, ok := to[after.Dst.Netip()]
	if !ok {
		r.unknown.Add(1)
		return false
	}
	packet.Rewrite(f, &in, &after)
	r.wrap(&d[0], t, total-14)
	r.forwarded.Add(1)
	return true
}

func (r *router) total(d []frame.Desc) (total int) {
	for _, part := range d {
		total += int(part.Len)
	}
	return total
}

// translate is the service: there is one.
func (r *router) translate(t packet.Tuple) packet.Tuple {
	if r.vip.IsValid() && t.Dst.Netip() == r.vip.Addr() && t.Dport == r.vip.Port() {
		t.Dst, t.Dport = packet.AddrFrom(r.backend.Addr()), r.backend.Port()
	}
	if r.vip.IsValid() && t.Src.Netip() == r.backend.Addr() && t.Sport == r.backend.Port() {
		t.Src, t.Sport = packet.AddrFrom(r.vip.Addr()), r.vip.Port()
	}
	return t
}

// wrap makes d, an IP packet of n bytes behind an Ethernet header, a frame to t.
func (r *router) wrap(d *frame.Desc, t target, n int) {
	id := t.id
	if t.remote {
		d.Addr -= packet.TunnelLen
		d.Len += packet.TunnelLen
		out := r.umem.Memory.Bytes(*d)
		binary.BigEndian.PutUint16(out[12:], packet.TypeIPv4)
		packet.PutTunnel(out[14:], &packet.Outer{Src: r.fab.addr.As4(), Dst: r.fab.peer.As4(), Sport: entropy, Label: bedLabel}, n)
		id, t.mac = uint32(r.fab.vif.ID), r.fab.peerMAC
	}
	f, mac := r.umem.Memory.Bytes(*d), link.VifMAC(id)
	copy(f, t.mac[:])
	copy(f[6:], mac[:])
}

// childEnv makes the test binary act as a fast path process: a router on the node
// it holds as JSON, until killed.
const childEnv = "STEER_TEST_CHILD"

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		fmt.Println(child(spec))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func child(spec string) error {
	var n node
	if err := json.Unmarshal([]byte(spec), &n); err != nil {
		return err
	}
	if err := enter(n.NS); err != nil {
		return err
	}
	s, err := n.openHere()
	if err != nil {
		return err
	}
	for _, p := range n.Pods {
		if err := s.AttachVif(p.Vif); err != nil {
			return err
		}
	}
	r, err := newRouter(&n, s)
	if err != nil {
		return err
	}
	for i := 1; i < n.Queues; i++ {
		go r.work(context.Background(), i)
	}
	fmt.Println("ready")
	r.work(context.Background(), 0)
	return nil
}

// startChild starts a fast path process and waits until it forwards.
func startChild(t *testing.T, n *node) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), childEnv+"="+string(spec))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	line := make([]byte, 512)
	k, err := out.Read(line)
	if got := string(line[:k]); got != "ready\n" {
		t.Fatalf("the child says %q, %v", got, err)
	}
	return c
}
