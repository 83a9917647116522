package kube

import (
	"io"
	"net"
	"sync"
	"testing"
)

// wire lies between a source and its API server, and can be cut.
type wire struct {
	address string
	to      string

	mu     sync.Mutex
	closed bool
	ice    chan struct{} // closed: what comes is not passed on, of connections made so far
	ends   []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String(), to: to, ice: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		all.Wait()
	})
	return w
}

func (w *wire) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer far.Close()
	w.mu.Lock()
	closed, ice := w.closed, w.ice
	w.ends = append(w.ends, near, far)
	w.mu.Unlock()
	if closed {
		return
	}
	var both sync.WaitGroup
	for _, d := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			defer d[1].Close()
			_, _ = io.Copy(slow{d[1], ice}, d[0]) // ends when either end does
		})
	}
	both.Wait()
}

// slow swallows what is written once it is frozen.
type slow struct {
	to  io.Writer
	ice chan struct{}
}

func (s slow) Write(p []byte) (int, error) {
	select {
	case <-s.ice:
		return len(p), nil
	default:
		return s.to.Write(p)
	}
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, c := range w.ends {
		_ = c.Close()
	}
	w.ends = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = false
}

func (w *wire) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.ice)
	w.ice = make(chan struct{})
}
