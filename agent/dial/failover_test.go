package dial

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/vragent/vragent/controller/southbound"
)

// moving are controllers whose addresses change while we run.
type moving struct {
	Files
	changed chan struct{}
	list    chan []string
}

func (m *moving) Addresses() []string {
	list := <-m.list
	m.list <- list
	return list
}

func (m *moving) Changed() <-chan struct{} { return m.changed }

func (m *moving) move(addresses ...string) {
	<-m.list
	m.list <- addresses
	m.changed <- struct{}{}
}

// follow runs streams to controllers that may move.
func follow(t *testing.T, a *authority, addrs ...string) (*Southbound, *moving) {
	t.Helper()
	cert, key := a.leaf("n1")
	m := &moving{Files: Files{CA: filepath.Join(a.dir, "ca.crt"), Cert: cert, Key: key}, changed: make(chan struct{}), list: make(chan []string, 1)}
	m.list <- addrs
	s := NewSouthbound(SouthboundConfig{Node: "n1", Version: "test", Address: "192.0.2.1", Controllers: m, Log: slog.New(slog.DiscardHandler)},
		func() []*pb.ResourceVersion {
			return []*pb.ResourceVersion{{Type: pb.Type_TYPE_VMI, Name: "u", Version: "v"}}
		})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = s.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s, m
}

// hello waits for the first word of a stream, and wants it to be of a kind.
func (h *hub) hello(t *testing.T, standby bool) {
	t.Helper()
	m := h.next(t).GetHello()
	if m == nil || m.GetStandby() != standby || standby == (len(m.GetHave()) > 0) {
		t.Fatalf("%s heard %v, want a hello, standby %v", h.addr, m, standby)
	}
}

// primary waits for the hello of a full stream; the node may have begun as a standby.
func (h *hub) primary(t *testing.T) {
	t.Helper()
	for {
		if m := h.next(t).GetHello(); m != nil && !m.GetStandby() {
			return
		}
	}
}

// publication waits for one with so many VMIs.
func (h *hub) publication(t *testing.T, vmis int, inSync bool) {
	t.Helper()
	if p := h.next(t).GetPublish(); len(p.GetVmis()) != vmis || p.GetInSync() != inSync {
		t.Fatalf("%s heard publication %v", h.addr, p)
	}
}

// ready waits until the primary has spoken and the standbys are connected.
func ready(t *testing.T, s *Southbound, primary string, streams int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is primary of %d streams", primary, streams), func() bool {
		links := s.Links()
		connected := 0
		for _, l := range links {
			if l.Connected {
				connected++
			}
		}
		return connected == streams && links[0].Primary && links[0].Address == primary && links[0].Connected
	})
}

// pair starts two controllers and returns them as the node prefers them.
func pair(t *testing.T, a *authority) (first, second *hub) {
	t.Helper()
	first, second = newHub(t, a, "127.0.0.1:0"), newHub(t, a, "127.0.0.1:0")
	s := &Southbound{cfg: SouthboundConfig{Node: "n1"}}
	if s.compare(&peer{address: first.addr}, &peer{address: second.addr}) > 0 {
		return second, first
	}
	return first, second
}

// The standby hears what the primary hears, takes over at once, and keeps the
// place when the other one is back.
func TestFailOver(t *testing.T) {
	a := newAuthority(t)
	one, two := pair(t, a)
	s, _ := follow(t, a, one.addr, two.addr)
	s.Publish(local("a"))
	one.hello(t, false)
	two.hello(t, true)
	one.publication(t, 1, true)
	two.publication(t, 1, true)
	one.tell(t, &pb.ToAgent{Nonce: 1})
	old := update(t, s)
	ready(t, s, one.addr, 2)
	s.Publish(local("a", "b"))
	one.publication(t, 1, false)
	two.publication(t, 1, false)

	began := time.Now()
	one.cut <- struct{}{}
	two.hello(t, false)
	t.Logf("taken over within %v", time.Since(began))
	two.publication(t, 2, true)
	one.hello(t, true)
	one.publication(t, 2, true)
	s.Ack(old, nil) // of a stream that is gone
	// The same contents: nothing to send but that it is complete.
	two.tell(t, &pb.ToAgent{Nonce: 1, InSync: []pb.Type{pb.Type_TYPE_VMI}})
	u := update(t, s)
	if u.Attempt == old.Attempt {
		t.Error("both streams have the same number")
	}
	s.Ack(u, nil)
	if ack := two.next(t).GetAck(); ack.GetNonce() != 1 {
		t.Errorf("acknowledgement %v", ack)
	}
	ready(t, s, two.addr, 2) // the first one is back, as a standby
	s.Publish(local("b"))
	for _, h := range []*hub{one, two} {
		if p := h.next(t).GetPublish(); len(p.GetRemovedVmis()) != 1 {
			t.Errorf("%s heard %v", h.addr, p)
		}
	}
}

// With both gone there is no update, and so nothing is swept; whoever is there
// first is the primary.
func TestBothGone(t *testing.T) {
	a := newAuthority(t)
	one, two := pair(t, a)
	s, _ := follow(t, a, one.addr, two.addr)
	one.hello(t, false)
	one.tell(t, &pb.ToAgent{Nonce: 1})
	update(t, s)
	ready(t, s, one.addr, 2)
	two.hello(t, true)
	two.server.Stop()
	one.server.Stop()
	eventually(t, "no link", func() bool { return !s.Link().Connected })
	eventually(t, "each one's reason", func() bool {
		l := s.Link()
		return strings.Contains(l.Err, one.addr) && strings.Contains(l.Err, two.addr) && strings.Contains(l.Err, "refused")
	})
	select {
	case u := <-s.Updates():
		t.Errorf("update %v from nobody", u)
	case <-time.After(50 * time.Millisecond):
	}
	again := newHub(t, a, two.addr)
	again.hello(t, false)
	again.tell(t, &pb.ToAgent{Nonce: 1})
	update(t, s)
	ready(t, s, two.addr, 1)
}

// A primary that never was there does not keep its place from a standby that is.
func TestPrimaryNeverThere(t *testing.T) {
	a := newAuthority(t)
	one, two := pair(t, a)
	one.server.Stop()
	s, _ := follow(t, a, one.addr, two.addr)
	two.primary(t)
	two.tell(t, &pb.ToAgent{Nonce: 1})
	update(t, s)
	ready(t, s, two.addr, 1)
}

// Controllers come and go; while none is known, the streams stay as they are.
func TestControllersMove(t *testing.T) {
	a := newAuthority(t)
	one, two := pair(t, a)
	s, m := follow(t, a)
	if l := s.Link(); l.Connected || !strings.Contains(l.Err, "no controller's address is known yet") {
		t.Errorf("link %+v", l)
	}
	m.move(two.addr)
	two.hello(t, false)
	two.tell(t, &pb.ToAgent{Nonce: 1})
	update(t, s)
	m.move(two.addr, one.addr) // preferred, but too late
	one.hello(t, true)
	ready(t, s, two.addr, 2)
	m.move(one.addr)
	one.hello(t, false)
	one.tell(t, &pb.ToAgent{Nonce: 1})
	update(t, s)
	ready(t, s, one.addr, 1)
	m.move()
	s.Publish(local("a"))
	one.publication(t, 1, true)
	ready(t, s, one.addr, 1)
}

// Agents spread over controllers, and each finds the same ones again.
func TestRendezvous(t *testing.T) {
	chosen := map[string]int{}
	for i := range 300 {
		s := &Southbound{cfg: SouthboundConfig{Node: fmt.Sprintf("node%d", i)}, peers: map[string]*peer{}}
		for _, address := range []string{"192.0.2.1:7443", "192.0.2.2:7443", "192.0.2.3:7443"} {
			s.peers[address] = &peer{address: address}
		}
		order := s.order()
		chosen[order[0].address]++
		delete(s.peers, order[0].address)
		if left := s.order(); !slices.Equal(left, order[1:]) {
			t.Error("losing one changes the order of the others")
		}
	}
	for address, n := range chosen {
		if n < 60 || n > 140 {
			t.Errorf("%s is the first of %d nodes of 300", address, n)
		}
	}
}

// What is refused is no controller, whoever listens there.
func TestNotAController(t *testing.T) {
	a := newAuthority(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := newHub(t, a, "127.0.0.1:0")
	s, _ := follow(t, a, l.Addr().String(), h.addr) // takes connections and says nothing
	h.primary(t)
	h.tell(t, &pb.ToAgent{Nonce: 1})
	update(t, s)
	ready(t, s, h.addr, 1)
}
