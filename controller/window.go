package main

import (
	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/api"
	"github.com/vragent/vragent/controller/converge"
	"github.com/vragent/vragent/controller/hub"
	"github.com/vragent/vragent/controller/plan"
)

// window is what the API may see of the parts that run.
type window struct {
	config *conf.Controller
	loop   *converge.Loop
	agents *hub.Hub
}

func (w *window) model() *plan.Model { return w.loop.View().Model }

// status puts together what the loop and the hub know.
func (w *window) status() api.Status {
	v := w.loop.View()
	s := api.Status{
		Version:   version,
		Cluster:   w.config.Cluster,
		State:     "running",
		Manifests: w.config.Manifests,
		Agents:    w.nodes(v),
		Problems:  []api.Problem{},
		Leases:    []api.Lease{},
		Counts: api.Counts{
			VirtualNetworks:   len(v.Model.Networks),
			VirtualInterfaces: len(v.Model.Interfaces),
			LoadBalancers:     len(v.Model.LoadBalancers),
		},
	}
	switch {
	case !v.Ready:
		s.State = "reading-manifests"
	case v.Settling:
		s.State = "waiting-for-nodes"
	}
	for _, p := range v.Model.Problems {
		s.Problems = append(s.Problems, api.Problem{Object: p.Object, Problem: p.Sentence})
	}
	for _, n := range v.Model.Notices {
		s.Notices = append(s.Notices, api.Problem{Object: n.Object, Problem: n.Sentence})
	}
	for _, l := range v.Leases {
		s.Leases = append(s.Leases, api.Lease{VirtualNetwork: l.Network, Node: l.Node, Prefix: l.Prefix.String()})
	}
	for _, lb := range v.Model.LoadBalancers {
		for _, l := range lb.Listeners {
			s.Counts.Members += len(l.Members)
		}
	}
	return s
}

// nodes are those of the cluster and those heard of.
func (w *window) nodes(v *converge.View) []api.Agent {
	out := []api.Agent{}
	heard := map[string]bool{}
	for _, a := range w.agents.Agents() {
		heard[a.Node] = true
		out = append(out, api.Agent{
			Node: a.Node, State: a.State, Remote: a.Remote, TunnelAddress: a.Report.Tunnel.String(),
			AgentVersion: a.Report.Version, Since: a.Since, LastAck: a.LastAck, Pending: a.Pending,
			VMIs: len(a.Report.VMIs), Routes: len(a.Report.Routes), Refusals: a.Refusals,
		})
	}
	for _, n := range v.Nodes {
		if !heard[n.Name] {
			out = append(out, api.Agent{Node: n.Name, State: "absent"})
		}
	}
	return out
}
