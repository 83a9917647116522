// Package kube reads the cluster from a Kubernetes API server and follows its
// changes. A Source's Run owns what is known of each kind; what others see is an
// immutable plan.Cluster, never a part of one, and never less because the API
// server is away. It writes nothing (controller/write) and decides nothing
// (controller/plan).
package kube

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/vragent/vragent/conf/v1alpha1"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/watch/convert"
)

// Source is the cluster as its API server says.
type Source struct {
	// Set once by New
	log     *slog.Logger
	changed chan struct{}
	link    *link
	shelves shelves
	kinds   []kind // the same shelves

	// Written by Run, read by anyone
	version atomic.Uint64 // of all shelves together
	whole   atomic.Bool   // every kind was read

	// Written by whoever asks first after a change
	mu   sync.Mutex
	view view
}

// view is the contents of all shelves at one version. It is immutable.
type view struct {
	version uint64
	cluster *plan.Cluster // nil: some kind was not read yet
	leases  []plan.Lease  // by network and prefix
}

type shelves struct {
	namespaces *shelf[*corev1.Namespace, plan.Namespace]
	nodes      *shelf[*corev1.Node, plan.Node]
	pods       *shelf[*corev1.Pod, plan.Pod]
	services   *shelf[*corev1.Service, plan.Service]
	slices     *shelf[*discoveryv1.EndpointSlice, plan.EndpointSlice]
	policies   *shelf[*networkingv1.NetworkPolicy, plan.Unserved]
	ingresses  *shelf[*networkingv1.Ingress, plan.Unserved]
	networks   *shelf[*v1alpha1.VirtualNetwork, plan.VirtualNetwork]
	pools      *shelf[*v1alpha1.FloatingIPPool, plan.FloatingIPPool]
	blocks     *shelf[*v1alpha1.IPBlock, plan.Lease]
}

// New makes a source that knows nothing until it runs.
func New(config *rest.Config, log *slog.Logger) (*Source, error) {
	s := &Source{log: log, changed: make(chan struct{}, 1)}
	s.link = newLink(log, s.signal)
	c, err := connect(config)
	if err != nil {
		return nil, err
	}
	s.shelves = shelves{
		namespaces: put(s, c.core, "namespaces", convert.Namespace),
		nodes:      put(s, c.core, "nodes", convert.Node),
		pods:       put(s, c.core, "pods", convert.Pod),
		services:   put(s, c.core, "services", convert.Service),
		slices:     put(s, c.discovery, "endpointslices", convert.Slice),
		policies:   put(s, c.networking, "networkpolicies", convert.NetworkPolicy),
		ingresses:  put(s, c.networking, "ingresses", convert.Ingress),
		networks:   put(s, c.ours, "virtualnetworks", convert.VirtualNetwork),
		pools:      put(s, c.ours, "floatingippools", convert.Pool),
		blocks:     put(s, c.ours, "ipblocks", convert.Lease),
	}
	return s, nil
}

// Run follows the API server until the context ends.
func (s *Source) Run(ctx context.Context) error {
	ctx = klog.NewContext(ctx, klog.Logger{}) // link logs transitions; the library logs every attempt
	var g errgroup.Group
	for _, k := range s.kinds {
		g.Go(func() error { k.follow(ctx); return nil })
	}
	return g.Wait()
}

// Cluster is what the API server says; nil until every kind was read once.
func (s *Source) Cluster() *plan.Cluster { return s.now().cluster }

// Fresh tells whether the API server is followed at this moment.
func (s *Source) Fresh() bool { return s.link.status().Connected }

// Leases are the address blocks that nodes hold, by network and prefix; false
// until every kind was read once. The list is not to be changed.
func (s *Source) Leases() ([]plan.Lease, bool) {
	v := s.now()
	return v.leases, v.cluster != nil
}

// PodOf finds a pod by its name, as fresh as the source has it.
func (s *Source) PodOf(namespace, name string) (plan.Pod, bool) {
	return s.shelves.pods.get(key{namespace, name})
}

// Changes has a value when Cluster, Leases or Problems may say something new.
func (s *Source) Changes() <-chan struct{} { return s.changed }

// Problems are objects that could not be read in full, and kinds that cannot
// be read at all.
func (s *Source) Problems() []plan.Problem {
	problems := s.link.problems(s.whole.Load())
	for _, k := range s.kinds {
		problems = append(problems, k.faults()...)
	}
	slices.SortFunc(problems, func(a, b plan.Problem) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Sentence, b.Sentence))
	})
	return problems
}

// Status is how fresh the source is.
func (s *Source) Status() Status {
	status := s.link.status()
	for _, k := range s.kinds {
		if !k.read() {
			status.Waiting = append(status.Waiting, k.name())
		}
	}
	status.Connected = status.Connected && len(status.Waiting) == 0
	return status
}

// touch notes that a shelf has changed.
func (s *Source) touch() {
	s.version.Add(1)
	unread := func(k kind) bool { return !k.read() }
	if !s.whole.Load() && !slices.ContainsFunc(s.kinds, unread) && s.whole.CompareAndSwap(false, true) {
		c := s.Cluster()
		s.log.Info("cluster read", "nodes", len(c.Nodes), "pods", len(c.Pods), "services", len(c.Services), "endpointSlices", len(c.Slices))
	}
	s.signal()
}

func (s *Source) signal() {
	select {
	case s.changed <- struct{}{}:
	default: // one is already waiting: it covers this change too
	}
}

// now builds the view, once per version. A change that comes meanwhile may be
// in it already; then it is built once more.
func (s *Source) now() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	version := s.version.Load()
	if !s.whole.Load() || s.view.cluster != nil && s.view.version == version {
		return s.view
	}
	of := &s.shelves
	c := &plan.Cluster{
		Namespaces:      of.namespaces.all(),
		Nodes:           of.nodes.all(),
		Pods:            of.pods.all(),
		Services:        of.services.all(),
		Slices:          of.slices.all(),
		VirtualNetworks: of.networks.all(),
		Pools:           of.pools.all(),
		Unserved:        slices.Concat(of.policies.all(), of.ingresses.all()),
	}
	leases := slices.DeleteFunc(slices.Clone(of.blocks.all()), func(l plan.Lease) bool { return !l.Prefix.IsValid() })
	slices.SortFunc(leases, func(a, b plan.Lease) int {
		return cmp.Or(strings.Compare(a.Network, b.Network), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	s.view = view{version: version, cluster: c, leases: leases}
	return s.view
}
