package loop

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/kernel"
)

// hostKeeper keeps the host's interface, its addresses and routes and the
// firewall rules as they should be, whoever else touches them.
type hostKeeper struct {
	// Set once by newHostKeeper.
	name       string
	mtu        int
	masquerade bool
	log        *slog.Logger
	moved      func() // called when facts changed
	kick       chan struct{}

	// Guarded by mu.
	mu    sync.Mutex
	want  hostWant
	found *compile.Host // without addresses; nil: never made
	fault string        // of the last attempt
	done  bool          // everything wanted is there
}

// hostWant is what the host's interface should be.
type hostWant struct {
	Addrs    []netip.Addr
	Pods     []netip.Prefix // subnets
	Services []netip.Prefix
	Steered  int // index of the tap that is in the fast path; 0: none yet
}

func newHostKeeper(cfg Config, mtu int, moved func()) *hostKeeper {
	return &hostKeeper{
		name: cfg.Host.Interface, mtu: mtu, masquerade: cfg.Host.Masquerade, log: cfg.Log, moved: moved,
		kick: make(chan struct{}, 1), fault: "not set up yet",
	}
}

func (k *hostKeeper) poke() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// change changes what is wanted.
func (k *hostKeeper) change(f func(*hostWant)) {
	k.mu.Lock()
	before := k.want
	f(&k.want)
	same := reflect.DeepEqual(before, k.want)
	if !same {
		k.done = false
	}
	k.mu.Unlock()
	if !same {
		k.poke()
	}
}

// setSteered says that frames of the tap with this index go to the fast path.
func (k *hostKeeper) setSteered(ifindex int) {
	k.change(func(w *hostWant) { w.Steered = ifindex })
}

func (k *hostKeeper) wanted() hostWant {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.want
}

// facts describe the interface for the fast path; nil if it is not there.
func (k *hostKeeper) facts() *compile.Host {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.found
}

// state says whether all is as wanted, and what is wrong.
func (k *hostKeeper) state() (done bool, fault string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.done, k.fault
}

const (
	hostRetry = 2 * time.Second
	hostCheck = 30 * time.Second // others may have removed what we made
)

// Run applies what is wanted until ctx is done.
func (k *hostKeeper) Run(ctx context.Context) error {
	for {
		wait := hostCheck
		before := k.facts()
		err := k.apply(k.wanted())
		if err != nil {
			wait = hostRetry
		}
		if now := k.facts(); !reflect.DeepEqual(before, now) {
			k.moved()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.kick:
		case <-time.After(wait):
		}
	}
}

// apply makes things as wanted. The interface goes up only when its frames are
// steered to the fast path.
func (k *hostKeeper) apply(w hostWant) error {
	host, err := kernel.EnsureHost(k.name, k.mtu)
	up := err == nil && w.Steered == host.Ifindex
	if up {
		err = k.dress(w)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.found = &host
	}
	k.done = up && err == nil && reflect.DeepEqual(w, k.want)
	fault := ""
	switch {
	case err != nil:
		fault = err.Error()
	case !up:
		fault = "waits for the fast path"
	case len(w.Addrs) == 0:
		fault = "has no address: no block is leased to this node yet"
	}
	if fault != k.fault && err != nil {
		k.log.Error("host interface", "error", err)
	}
	k.fault = fault
	return err
}

func (k *hostKeeper) dress(w hostWant) error {
	if err := kernel.HostUp(k.name); err != nil {
		return err
	}
	if err := kernel.SetHostAddrs(k.name, w.Addrs); err != nil {
		return err
	}
	routes := append(append([]netip.Prefix{}, w.Pods...), w.Services...)
	if err := kernel.SetHostRoutes(k.name, routes, w.Addrs); err != nil {
		return err
	}
	return kernel.EnsureRules(kernel.Rules{Host: k.name, Subnets: routes, Masquerade: k.masquerade})
}

// tellHost says what the node's state wants of the host's interface.
func (l *Loop) tellHost() {
	addrs, _ := l.turn.node.Host()
	pods, services := l.turn.node.Subnets()
	l.host.change(func(w *hostWant) { w.Addrs, w.Pods, w.Services = addrs, pods, services })
}
