// Package plan decides what every node is to hold: Kubernetes objects become
// Contrail's object model, and the model becomes southbound resources. It owns
// no state: Build is a function of its Input, which contains the Memory that
// the last Build returned. It does no I/O, reads no clock, starts no goroutine
// and knows neither files nor streams.
package plan

import (
	"net/netip"
	"time"

	"github.com/vragent/vragent/controller/plan/cluster"
	"github.com/vragent/vragent/controller/southbound"
)

// Config is what the operator decides for the whole cluster.
type Config struct {
	Cluster        string // prefix of every Contrail name: k8s
	PodSubnets     []netip.Prefix
	ServiceSubnets []netip.Prefix
	BlockBits4     int // prefix length of a node's block, IPv4
	BlockBits6     int // the same, IPv6
	// SharedServices (namespace/name) are usable from every network: DNS, the API server.
	SharedServices []string
	PublicPool     *FQName // floating IPs of services whose annotations name none; nil: none
	NodePorts      bool    // nodes serve them, without kube-proxy
	// Quarantine is how long a block is unused before it is given back. 0: DefaultQuarantine.
	Quarantine time.Duration
}

// Input is everything a plan depends on.
type Input struct {
	Config  Config
	Cluster *Cluster
	Leases  []Lease
	Reports map[string]*Report // by node; a node that never reported is absent
	Memory  *Memory            // of the last Build, nil at first
	// Settled has the keys of Memory.Awaited whose last published state
	// every connected agent has acknowledged.
	Settled map[Key]bool
	Now     time.Time
}

// Output is the plan.
type Output struct {
	Model   *Model
	Intents *Intents
	Memory  *Memory
	// Leases are to be made and given up; the next Build is to see the outcome.
	Leases Leases
	// Statuses are of the services that are to have another one.
	Statuses []Status
	// Again is when to plan anew although nothing happens; the zero Time: never.
	Again time.Time
	// Unacknowledged counts the attached VMIs whose agent has not yet said
	// that all of their port maps are in the fast path.
	Unacknowledged int
}

// Build plans the whole cluster anew. The order, repetition and partition of
// the input's lists do not matter.
func Build(in Input) *Output {
	b := &builder{
		in:     in,
		memory: in.Memory.next(),
		idx:    cluster.NewIndex(in.Cluster),
		model:  &Model{Cluster: in.Config.Cluster},
		sets:   map[string]Set{},
	}
	if b.in.Memory == nil {
		b.in.Memory = &Memory{}
	}
	b.readLeases()
	b.tunnelAddresses()
	b.networks()
	b.interfaces()
	b.presence()
	b.leaseBlocks()
	b.loadBalancers()
	b.networkResources()   // needs every service's home: who is answered by whom
	b.interfaceResources() // needs every port map; decides which members may be announced
	b.loadBalancerResources()
	b.routingInstances()
	b.nodeResources()
	b.remarks()
	b.model.Projects = b.nets.Projects
	b.model.finish()
	return &Output{
		Model:          b.model,
		Intents:        &Intents{Sets: b.sets, Nodes: b.subscriptions()},
		Memory:         b.memory,
		Leases:         b.made,
		Statuses:       b.statuses,
		Again:          b.again,
		Unacknowledged: b.unacknowledged,
	}
}

// builder is one Build at work.
type builder struct {
	// Set once by Build
	in  Input
	idx *cluster.Index

	// Growing, stage by stage
	model   *Model
	memory  *Memory
	sets    map[string]Set
	tunnels map[string]netip.Addr // by node
	again   time.Time
	placing
	leasing
	balancing
	unacknowledged int
}

// wakeAt asks for another plan at that time, or before; the zero Time asks for none.
func (b *builder) wakeAt(t time.Time) {
	if !t.IsZero() && (b.again.IsZero() || t.Before(b.again)) {
		b.again = t
	}
}

func (b *builder) problem(object, sentence string) {
	b.model.Problems = append(b.model.Problems, Problem{Object: object, Sentence: sentence})
}

func (b *builder) notice(object, sentence string) {
	b.model.Notices = append(b.model.Notices, Problem{Object: object, Sentence: sentence})
}

func (b *builder) add(set string, t southbound.Type, name string, body message) *Resource {
	r := encode(t, name, body)
	s := b.sets[set]
	if s == nil {
		s = Set{}
		b.sets[set] = s
	}
	s[r.Key] = r
	return r
}
