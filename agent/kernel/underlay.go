package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/fastpath/table"
)

// Underlay follows how the kernel reaches the other nodes: by which neighbour of
// the fabric interface, and with which MTU.
type Underlay struct {
	// Set once by NewUnderlay.
	name  string // of the fabric interface
	log   *slog.Logger
	peers chan []netip.Addr

	// Written by Run, read by anyone.
	mu    sync.Mutex
	known map[netip.Addr]compile.Neighbour
}

// NewUnderlay prepares a watch of the fabric interface.
func NewUnderlay(fabric string, log *slog.Logger) *Underlay {
	return &Underlay{name: fabric, log: log, peers: make(chan []netip.Addr, 1), known: map[netip.Addr]compile.Neighbour{}}
}

// SetPeers says whose neighbours are of interest. It never blocks; the last word counts.
func (u *Underlay) SetPeers(peers []netip.Addr) {
	for {
		select {
		case u.peers <- append([]netip.Addr{}, peers...):
			return
		default:
		}
		select {
		case <-u.peers:
		default:
		}
	}
}

// Recall says what was known before this agent started. It holds until the kernel
// says otherwise.
func (u *Underlay) Recall(known map[netip.Addr]compile.Neighbour) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known = known
}

// Known returns what was found last, by tunnel address.
func (u *Underlay) Known() map[netip.Addr]compile.Neighbour {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.known)
}

// retry is how often an unresolved neighbour is asked for again, and refresh how
// often every one is asked whether it is still there: the kernel does not see
// the traffic it carries, and would forget it.
const (
	retry   = time.Second
	refresh = 30 * time.Second
)

// Run watches until ctx is done and calls changed whenever Known changed.
func (u *Underlay) Run(ctx context.Context, changed func()) error {
	w := &underlayWatch{Underlay: u, changed: changed}
	for ctx.Err() == nil {
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		u.log.Warn("events of the underlay were lost; looking at all of it", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// spacing is the least time between two looks: neighbours of a large cluster
// come and go all the time.
const spacing = 20 * time.Millisecond

// underlayWatch is one Run.
type underlayWatch struct {
	*Underlay
	changed func()
	peers   []netip.Addr // nil: nobody has asked yet
	fabric  netlink.Link
	hops    map[netip.Addr]hop // by peer; nil: routes have moved
	asked   time.Time          // when every neighbour was last asked
	looked  time.Time
}

// hop is the next hop of the underlay towards a peer.
type hop struct {
	next netip.Addr // invalid: the fabric does not lead there
	mtu  int        // bytes
}

// watch follows the kernel's events until they break off.
func (w *underlayWatch) watch(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	neighbours := make(chan netlink.NeighUpdate, 256)
	routes := make(chan netlink.RouteUpdate, 256)
	links := make(chan netlink.LinkUpdate, 64)
	if err := errors.Join(netlink.NeighSubscribe(neighbours, done), netlink.RouteSubscribe(routes, done), netlink.LinkSubscribe(links, done)); err != nil {
		return fmt.Errorf("watch the underlay: %w", err)
	}
	w.hops = nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		open := true
		select {
		case <-ctx.Done():
			return nil
		case w.peers = <-w.Underlay.peers:
			w.hops = nil
		case _, open = <-neighbours:
		case _, open = <-routes:
			w.hops = nil
		case _, open = <-links:
			w.hops = nil
		case now := <-timer.C:
			timer.Reset(w.look(now))
			continue
		}
		if !open {
			return errors.New("the kernel closed the events")
		}
		timer.Reset(max(time.Until(w.looked.Add(spacing)), 0)) // one look answers a burst
	}
}

// look resolves every peer and says when to look again.
func (w *underlayWatch) look(now time.Time) time.Duration {
	w.looked = now
	ask := now.Sub(w.asked) >= refresh
	if ask {
		w.asked, w.hops = now, nil
	}
	found, unresolved, err := w.resolveAll(ask)
	if err != nil {
		w.log.Warn("the underlay cannot be read", "interface", w.name, "error", err)
		return retry
	}
	w.mu.Lock()
	same := maps.Equal(w.known, found)
	w.known = found
	w.mu.Unlock()
	if !same {
		w.changed()
	}
	if unresolved {
		return retry
	}
	return max(refresh-now.Sub(w.asked), retry)
}

// resolveAll finds every peer's neighbour. ask makes the kernel ask each.
func (w *underlayWatch) resolveAll(ask bool) (found map[netip.Addr]compile.Neighbour, unresolved bool, err error) {
	found = make(map[netip.Addr]compile.Neighbour, len(w.peers))
	if w.peers == nil {
		return w.Known(), false, nil // nobody has asked yet: what was recalled stays
	}
	if len(w.peers) == 0 {
		return found, false, nil
	}
	if w.hops == nil {
		if err := w.readRoutes(); err != nil {
			return nil, true, err
		}
	}
	known, failed, err := neighbourTable(w.fabric)
	if err != nil {
		return nil, true, err
	}
	before := w.Known()
	asked := map[netip.Addr]bool{}
	for _, p := range w.peers {
		h := w.hops[p]
		n := compile.Neighbour{SrcMAC: toMAC(w.fabric.Attrs().HardwareAddr), MTU: h.mtu}
		mac, ok := known[h.next]
		if (!ok || ask) && h.next.IsValid() && !asked[h.next] {
			asked[h.next] = true
			askNeighbour(w.fabric, h.next)
		}
		switch {
		case ok:
			n.DstMAC = mac
		case h.next.IsValid() && !failed[h.next]:
			// The kernel has forgotten it, or is asking just now: it is the one
			// it was before until it fails to answer.
			n.DstMAC = before[p].DstMAC
		}
		found[p] = n
		unresolved = unresolved || !ok
	}
	return found, unresolved, nil
}

// readRoutes finds the next hop towards each peer.
func (w *underlayWatch) readRoutes() error {
	fabric, err := netlink.LinkByName(w.name)
	if err != nil {
		return err
	}
	w.fabric, w.hops = fabric, make(map[netip.Addr]hop, len(w.peers))
	for _, p := range w.peers {
		h := hop{mtu: fabric.Attrs().MTU}
		routes, err := netlink.RouteGet(p.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].LinkIndex == fabric.Attrs().Index {
			h.next = p
			if gw := routes[0].Gw; gw != nil {
				h.next = fromIP(gw)
			}
			if m := routes[0].MTU; m > 0 {
				h.mtu = min(h.mtu, m)
			}
		}
		w.hops[p] = h
	}
	return nil
}

// neighbourTable lists the usable neighbours of the interface, and those that
// were asked and did not answer.
func neighbourTable(l netlink.Link) (known map[netip.Addr]table.MAC, failed map[netip.Addr]bool, err error) {
	var list []netlink.Neigh
	for range tries {
		if list, err = netlink.NeighList(l.Attrs().Index, netlink.FAMILY_V4); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, nil, err
	}
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT | netlink.NUD_NOARP
	known, failed = map[netip.Addr]table.MAC{}, map[netip.Addr]bool{}
	for _, n := range list {
		switch {
		case n.State&usable != 0 && len(n.HardwareAddr) == 6:
			known[fromIP(n.IP)] = toMAC(n.HardwareAddr)
		case n.State&netlink.NUD_FAILED != 0:
			failed[fromIP(n.IP)] = true
		}
	}
	return known, failed, nil
}

// askNeighbour makes the kernel resolve a neighbour, or confirm one it has not
// heard of lately, as if it had a packet for it (NTF_USE).
func askNeighbour(l netlink.Link, ip netip.Addr) {
	// An error means that the next try comes in a second.
	_ = netlink.NeighSet(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: netlink.FAMILY_V4, IP: ip.AsSlice(),
		State: netlink.NUD_NONE, Flags: unix.NTF_USE,
	})
}
