package plan

import (
	"cmp"
	"maps"
	"slices"
)

// readiness orders endpoints as Kubernetes' API does.
type readiness uint8

const (
	gone        readiness = iota // neither ready nor serving: no backend
	serving                      // finishes what it has: existing flows only
	terminating                  // serving and terminating: takes new flows when nobody is ready
	ready                        // takes new flows
)

// readinessOf reads the conditions; nil means ready, serving, not terminating
// (discovery.k8s.io/v1, EndpointConditions).
func readinessOf(e *Endpoint, publishNotReady bool) readiness {
	switch {
	case publishNotReady || e.Ready == nil || *e.Ready:
		return ready
	case e.Serving != nil && !*e.Serving:
		return gone
	case e.Terminating != nil && *e.Terminating:
		return terminating
	}
	return serving
}

// candidate is an endpoint that backs a listener.
type candidate struct {
	Endpoint
	port     uint16
	state    readiness
	draining bool
}

// id is what makes two endpoints the same: the pod, else address and port.
func (c *candidate) id() string {
	if c.Pod != nil {
		return "pod\x00" + c.Pod.Namespace + "\x00" + c.Pod.Name + "\x00" + c.Pod.UID
	}
	return "address\x00" + endpointText(c.Address, c.port)
}

// candidates merges the slices of a service for one of its ports and one
// family: ports are matched by name, an endpoint that is in two slices counts
// once, in its better state. If none is ready, those that still serve while
// they terminate take new flows; otherwise they only keep what they have.
func candidates(s *Service, port ServicePort, v6 bool, all []EndpointSlice) []candidate {
	found := map[string]candidate{}
	for i := range all {
		if all[i].V6 != v6 {
			continue
		}
		for _, p := range all[i].Ports {
			if p.Name != port.Name || p.Protocol != port.Protocol || p.Port == 0 {
				continue
			}
			for _, e := range all[i].Endpoints {
				merge(found, s, e, p.Port)
			}
		}
	}
	best := gone
	for _, c := range found {
		best = max(best, c.state)
	}
	out := make([]candidate, 0, len(found))
	for _, id := range slices.Sorted(maps.Keys(found)) {
		c := found[id]
		c.draining = c.state < best || c.state == serving
		out = append(out, c)
	}
	return out
}

func merge(found map[string]candidate, s *Service, e Endpoint, port uint16) {
	if e.Pod != nil && e.Pod.Namespace == "" {
		p := *e.Pod
		p.Namespace = s.Namespace
		e.Pod = &p
	}
	c := candidate{Endpoint: e, port: port, state: readinessOf(&e, s.PublishNotReady)}
	if c.state == gone {
		return
	}
	old, again := found[c.id()]
	if !again || better(&c, &old) {
		found[c.id()] = c
	}
}

// better decides between two sayings about one endpoint; it is a total order,
// so that the order of the slices does not matter.
func better(a, b *candidate) bool {
	return cmp.Or(
		cmp.Compare(b.state, a.state),
		cmp.Compare(a.port, b.port),
		a.Address.Compare(b.Address),
		cmp.Compare(a.Node, b.Node),
	) < 0
}
