package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
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
	fabric string
	log    *slog.Logger
	peers  chan []netip.Addr

	// Written by Run, read by anyone.
	mu    sync.Mutex
	known map[netip.Addr]compile.Neighbour
}

// NewUnderlay prepares a watch of the fabric interface.
func NewUnderlay(fabric string, log *slog.Logger) *Underlay {
	return &Underlay{fabric: fabric, log: log, peers: make(chan []netip.Addr, 1), known: map[netip.Addr]compile.Neighbour{}}
}

// SetPeers says whose neighbours are of interest. It never blocks; the last word counts.
func (u *Underlay) SetPeers(peers []netip.Addr) {
	for {
		select {
		case u.peers <- slices.Clone(peers):
			return
		default:
		}
		select {
		case <-u.peers:
		default:
		}
	}
}

// Known returns what was found last, by tunnel address.
func (u *Underlay) Known() map[netip.Addr]compile.Neighbour {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.known)
}

// retry is how often an unresolved neighbour is asked for again, and refresh how
// often everything is looked at even when the kernel said nothing.
const (
	retry   = time.Second
	refresh = 30 * time.Second
)

// Run watches until ctx is done and calls changed whenever Known changed.
func (u *Underlay) Run(ctx context.Context, changed func()) error {
	done := make(chan struct{})
	defer close(done)
	neighbours := make(chan netlink.NeighUpdate, 256)
	routes := make(chan netlink.RouteUpdate, 256)
	links := make(chan netlink.LinkUpdate, 64)
	if err := errors.Join(netlink.NeighSubscribe(neighbours, done), netlink.RouteSubscribe(routes, done), netlink.LinkSubscribe(links, done)); err != nil {
		return fmt.Errorf("watch the underlay: %w", err)
	}
	var peers []netip.Addr
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case peers = <-u.peers:
		case _, ok := <-neighbours:
			if !ok {
				return errors.New("watch the underlay: the kernel closed the neighbour events")
			}
		case _, ok := <-routes:
			if !ok {
				return errors.New("watch the underlay: the kernel closed the route events")
			}
		case _, ok := <-links:
			if !ok {
				return errors.New("watch the underlay: the kernel closed the interface events")
			}
		case <-timer.C:
		}
		drainEvents(neighbours, routes, links)
		wait := refresh
		if u.look(peers, changed) {
			wait = retry
		}
		timer.Reset(wait)
	}
}

// drainEvents takes what has queued up: one look answers a burst.
func drainEvents(n chan netlink.NeighUpdate, r chan netlink.RouteUpdate, l chan netlink.LinkUpdate) {
	for {
		select {
		case <-n:
		case <-r:
		case <-l:
		default:
			return
		}
	}
}

// look resolves every peer. It reports whether some are not resolved.
func (u *Underlay) look(peers []netip.Addr, changed func()) (again bool) {
	found := make(map[netip.Addr]compile.Neighbour, len(peers))
	if len(peers) > 0 {
		fabric, err := netlink.LinkByName(u.fabric)
		if err != nil {
			u.log.Warn("underlay: the fabric interface is missing", "interface", u.fabric, "error", err)
			return true
		}
		table, err := neighbourTable(fabric)
		if err != nil {
			u.log.Warn("underlay: neighbours cannot be read", "interface", u.fabric, "error", err)
			return true
		}
		before := u.Known()
		for _, p := range peers {
			n, unresolved := resolve(fabric, p, table)
			if n.DstMAC == (compile.Neighbour{}.DstMAC) {
				// The kernel forgets neighbours it does not use itself; ours carry
				// traffic it never sees. Only a failed answer is a reason to stop.
				n.DstMAC = before[p].DstMAC
			}
			found[p] = n
			again = again || unresolved
		}
	}
	u.mu.Lock()
	same := maps.Equal(u.known, found)
	u.known = found
	u.mu.Unlock()
	if !same {
		changed()
	}
	return again
}

// neighbourTable lists the usable neighbours of the interface.
func neighbourTable(l netlink.Link) (map[netip.Addr]table.MAC, error) {
	list, err := netlink.NeighList(l.Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT | netlink.NUD_NOARP
	t := map[netip.Addr]table.MAC{}
	for _, n := range list {
		if n.State&usable != 0 && len(n.HardwareAddr) == 6 {
			t[fromIP(n.IP)] = toMAC(n.HardwareAddr)
		}
	}
	return t, nil
}

// resolve finds the next hop of the underlay for a peer; an unknown one is asked for.
func resolve(fabric netlink.Link, peer netip.Addr, known map[netip.Addr]table.MAC) (n compile.Neighbour, unresolved bool) {
	n = compile.Neighbour{SrcMAC: toMAC(fabric.Attrs().HardwareAddr), MTU: fabric.Attrs().MTU}
	routes, err := netlink.RouteGet(peer.AsSlice())
	if err != nil || len(routes) == 0 || routes[0].LinkIndex != fabric.Attrs().Index {
		return n, true // no route by the fabric (yet)
	}
	next := peer
	if gw := routes[0].Gw; gw != nil {
		next = fromIP(gw)
	}
	if m := routes[0].MTU; m > 0 && m < n.MTU {
		n.MTU = m
	}
	mac, ok := known[next]
	if !ok {
		ask(fabric, next)
		return n, true
	}
	n.DstMAC = mac
	return n, false
}

// ask makes the kernel resolve a neighbour, as if it had a packet for it
// (NTF_USE), and keep it fresh (NTF_EXT_LEARNED is for others).
func ask(l netlink.Link, ip netip.Addr) {
	// An error means that the next try comes in a second.
	_ = netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, Family: netlink.FAMILY_V4, IP: ip.AsSlice(),
		State: netlink.NUD_NONE, Flags: unix.NTF_USE})
}
