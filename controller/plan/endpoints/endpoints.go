// Package endpoints finds what backs a port of a service. It owns no state: all
// of it is functions of a Service and its EndpointSlices. Which backends are
// pods of ours, and who is told about them, is not decided here.
package endpoints

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/controller/plan/cluster"
)

// readiness orders endpoints as Kubernetes' API does.
type readiness uint8

const (
	failing     readiness = iota // not even serving: what it has of connections is theirs to end
	serving                      // finishes what it has: existing flows only
	terminating                  // serving and terminating: takes new flows when nobody is ready
	ready                        // takes new flows
)

// readinessOf reads the conditions; nil means ready, serving, not terminating
// (discovery.k8s.io/v1, EndpointConditions).
func readinessOf(e *cluster.Endpoint, publishNotReady bool) readiness {
	switch {
	case publishNotReady || e.Ready == nil || *e.Ready:
		return ready
	case e.Serving != nil && !*e.Serving:
		return failing
	case e.Terminating != nil && *e.Terminating:
		return terminating
	}
	return serving
}

// Serve tells whether an endpoint is a backend, be it for the flows it has only.
func Serve(e *cluster.Endpoint, publishNotReady bool) bool {
	return readinessOf(e, publishNotReady) != failing
}

// Candidate is an endpoint that backs a listener.
type Candidate struct {
	cluster.Endpoint
	Port     uint16
	Draining bool // takes no new flows
	state    readiness
}

// ID is what makes two endpoints the same: the pod, else address and port.
func (c *Candidate) ID() string {
	if c.Pod != nil {
		return "pod\x00" + c.Pod.Namespace + "\x00" + c.Pod.Name + "\x00" + c.Pod.UID
	}
	return "address\x00" + netip.AddrPortFrom(c.Address, c.Port).String()
}

// Merge merges the slices of a service for one of its ports and one
// family: ports are matched by name, an endpoint that is in two slices counts
// once, in its better state. If none is ready, those that still serve while
// they terminate take new flows; otherwise they only keep what they have. One that
// does not serve keeps its connections all the same, as with kube-proxy: a failing
// probe, or a node that could not report for a while, ends none. Datagrams know no
// end, and go to others at once.
func Merge(s *cluster.Service, port cluster.ServicePort, v6 bool, all []cluster.EndpointSlice) []Candidate {
	found := map[string]Candidate{}
	for i := range all {
		if all[i].V6 != v6 {
			continue
		}
		for _, p := range all[i].Ports {
			if p.Name != port.Name || p.Protocol != port.Protocol || p.Port == 0 {
				continue
			}
			for _, e := range all[i].Endpoints {
				meet(found, s, e, p)
			}
		}
	}
	best := failing
	for _, c := range found {
		best = max(best, c.state)
	}
	out := make([]Candidate, 0, len(found))
	for _, id := range slices.Sorted(maps.Keys(found)) {
		c := found[id]
		c.Draining = c.state < best || c.state <= serving
		out = append(out, c)
	}
	return out
}

func meet(found map[string]Candidate, s *cluster.Service, e cluster.Endpoint, p cluster.EndpointPort) {
	if e.Pod != nil && e.Pod.Namespace == "" {
		pod := *e.Pod
		pod.Namespace = s.Namespace
		e.Pod = &pod
	}
	c := Candidate{Endpoint: e, Port: p.Port, state: readinessOf(&e, s.PublishNotReady)}
	if c.state == failing && p.Protocol == cluster.UDP {
		return
	}
	old, again := found[c.ID()]
	if !again || better(&c, &old) {
		found[c.ID()] = c
	}
}

// better decides between two sayings about one endpoint; it is a total order,
// so that the order of the slices does not matter.
func better(a, b *Candidate) bool {
	return cmp.Or(
		cmp.Compare(b.state, a.state),
		cmp.Compare(a.Port, b.Port),
		a.Address.Compare(b.Address),
		cmp.Compare(a.Node, b.Node),
		slices.Compare(a.HintNodes, b.HintNodes),
		slices.Compare(a.HintZones, b.HintZones),
	) < 0
}
