package steer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/poll"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/link/xsk"
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

	forwarded, unknown, astray, multi, broken, largest atomic.Uint64

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

func startRouter(t testing.TB, n *node, s *steer.Steer) *router {
	t.Helper()
	var r *router
	var err error
	in(t, n.NS, func() { r, err = newRouter(n, s) })
	if err != nil {
		t.Fatal(err)
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
	id  uint32
	mac [6]byte
}

func (r *router) work(ctx context.Context, worker int) {
	to := map[netip.Addr]target{}
	for _, p := range r.node.Pods {
		to[p.Addr] = target{uint32(p.Vif.ID), p.Vif.MAC}
		to[p.Addr6] = to[p.Addr]
	}
	l, b := r.sockets[worker], make([]frame.Desc, 256)
	out := make([]frame.Desc, 0, 256)
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
		for i := 0; i < n; {
			k := 1
			for b[i+k-1].Options&frame.Contd != 0 {
				k++
			}
			if r.route(worker, b[i:i+k], to) {
				out = append(out, b[i:i+k]...)
			} else {
				for _, d := range b[i : i+k] {
					r.pools[worker].Put(d.Addr)
				}
			}
			i += k
		}
		for sent := 0; sent < len(out); {
			sent += l.Transmit(out[sent:])
			l.Flush()
		}
	}
}

// route rewrites the Ethernet addresses of a packet; false drops it.
func (r *router) route(worker int, d []frame.Desc, to map[netip.Addr]target) bool {
	f, total := r.umem.Memory.Bytes(d[0]), 0
	for _, part := range d {
		total += int(part.Len)
	}
	var in packet.Info
	if _, ok := link.VifOf(f); !ok || packet.ParseIP(f, 14, total-14, &in) != packet.FaultNone {
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
	t, ok := to[in.Tuple.Dst.Netip()]
	if !ok {
		r.unknown.Add(1)
		return false
	}
	mac := link.VifMAC(t.id)
	copy(f, t.mac[:])
	copy(f[6:], mac[:])
	r.forwarded.Add(1)
	return true
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
