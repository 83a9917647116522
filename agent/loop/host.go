package loop

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vragent/vragent/agent/compile"
	checks "github.com/vragent/vragent/agent/health"
	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/conf"
)

// hostKeeper keeps the host's interface, its addresses and routes and the
// firewall rules as they should be, whoever else touches them.
type hostKeeper struct {
	// Set once by newHostKeeper.
	conf   *conf.Agent
	mtu    int
	log    *slog.Logger
	moved  func() // called when facts changed
	kick   chan struct{}
	checks *checks.Servers // of services, on this node

	// Guarded by mu.
	mu    sync.Mutex
	want  hostWant
	found *compile.Host // without addresses; nil: never made
	fault string        // of the last attempt
	left  []string      // what was refused, as sentences
	done  bool          // everything wanted is there
}

// hostWant is what the host's interface should be.
type hostWant struct {
	Addrs    []netip.Addr
	Pods     []netip.Prefix // subnets
	Services []netip.Prefix
	Facing   []netip.Addr // of pods, outside of Pods
	Kept     []netip.Addr // what must not be led there
	// In the fast path.
	Steered   int // index of the tap; 0: none yet
	NodePorts []compile.NodePort
	Externals []compile.External
	Trusted   []netip.Addr
}

// newHostKeeper prepares a keeper. healthy says whether the fast path forwards.
func newHostKeeper(cfg Config, mtu int, moved func(), healthy func() bool) *hostKeeper {
	return &hostKeeper{
		conf: cfg.Agent, mtu: mtu, log: cfg.Log, moved: moved, kick: make(chan struct{}, 1),
		checks: checks.New(healthy, cfg.Log), fault: "not set up yet",
	}
}

func (k *hostKeeper) name() string { return k.conf.Host.Interface }

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

// arrived says what the fast path has now: the tap with this index, and ways into
// services. Set up before, they would lead to a refusal.
func (k *hostKeeper) arrived(ifindex int, out compile.Outside) {
	k.change(func(w *hostWant) {
		w.Steered, w.NodePorts, w.Externals, w.Trusted = ifindex, out.NodePorts, out.Externals, out.APIServers
	})
	k.checks.Set(out.Health)
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
	host, err := kernel.EnsureHost(k.name(), k.mtu)
	up := err == nil && w.Steered == host.Ifindex
	var left []string
	if up {
		left, err = k.dress(w)
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
	if up && err == nil {
		k.note(left)
	}
	return err
}

// note logs what is newly left out.
func (k *hostKeeper) note(left []string) {
	for _, sentence := range left {
		if !slices.Contains(k.left, sentence) {
			k.log.Warn("left out of the host's routes", "what", sentence)
		}
	}
	k.left = left
}

func (k *hostKeeper) dress(w hostWant) (left []string, err error) {
	if err := kernel.HostUp(k.name()); err != nil {
		return nil, err
	}
	if err := kernel.SetHostAddrs(k.name(), w.Addrs); err != nil {
		return nil, err
	}
	subnets := slices.Concat(w.Pods, w.Services)
	for _, a := range w.Facing {
		subnets = append(subnets, netip.PrefixFrom(a, a.BitLen()))
	}
	routed, left, err := kernel.SetHostRoutes(kernel.Routes{
		Host: k.name(), Addrs: w.Addrs, Subnets: subnets, Externals: w.Externals, Kept: w.Kept,
	})
	if err != nil {
		return nil, err
	}
	served := func(list []netip.Prefix) []netip.Prefix {
		return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return !slices.Contains(routed.Subnets, p) })
	}
	return left, kernel.EnsureRules(kernel.Rules{
		Host: k.name(), Addrs: w.Addrs, Pods: served(w.Pods), Services: served(w.Services), Masquerade: k.conf.Host.Masquerade,
		NodePorts: w.NodePorts, Externals: routed.Externals, Trusted: w.Trusted,
	})
}

// health is the state of the host's interface as a condition. What is left out is
// the fault of one object, not of the node.
func (k *hostKeeper) health() (bool, string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.done || k.fault != "" {
		return false, k.name() + ": " + k.fault
	}
	return true, strings.Join(slices.Concat([]string{k.name() + " is up"}, k.left, k.checks.Problems()), "; ")
}

// tellHost says what the node's state wants of the host's interface.
func (l *Loop) tellHost() {
	node := l.turn.node
	addrs, _ := node.Host()
	pods, services := node.Subnets()
	facing, kept := node.Facing(), node.Peers()
	l.host.change(func(w *hostWant) {
		w.Addrs, w.Pods, w.Services, w.Facing, w.Kept = addrs, pods, services, facing, kept
	})
}
