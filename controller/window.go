package main

import (
	"errors"
	"fmt"

	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/api"
	"github.com/vragent/vragent/controller/converge"
	"github.com/vragent/vragent/controller/hub"
	"github.com/vragent/vragent/controller/plan"
)

// window is what the API may see of the parts that run.
type window struct {
	config  *conf.Controller
	loop    *converge.Loop
	agents  *hub.Hub
	cluster func() *api.APIServer // nil: there is none
}

func (w *window) model() *plan.Model { return w.loop.View().Model }

func (w *window) leases() []plan.Lease { return w.loop.View().Leases }

// ready tells whether agents are told what they need: from the moment on when
// the cluster is known, whether the API server still answers or not.
func (w *window) ready() bool { return w.loop.View().Ready }

// status puts together what the loop and the hub know.
func (w *window) status() api.Status {
	v := w.loop.View()
	s := api.Status{
		Version:  version,
		Cluster:  w.config.Cluster,
		State:    "running",
		Agents:   w.nodes(v),
		Problems: []api.Problem{},
		Leases:   []api.Lease{},
		Counts: api.Counts{
			VirtualNetworks:   len(v.Model.Networks),
			VirtualInterfaces: len(v.Model.Interfaces),
			LoadBalancers:     len(v.Model.LoadBalancers),
		},
	}
	if w.cluster != nil {
		s.APIServer = w.cluster()
	} else {
		s.Manifests = w.config.Manifests
	}
	switch {
	case !v.Ready && w.cluster == nil:
		s.State = "reading-manifests"
	case !v.Ready:
		s.State = "reading-cluster"
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
	s.Judge(w.config.Kubernetes.Namespace)
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
	if v.Cluster == nil {
		return out
	}
	for _, n := range v.Cluster.Nodes {
		if !heard[n.Name] {
			out = append(out, api.Agent{Node: n.Name, State: "absent"})
		}
	}
	return out
}

// ipam is what an audit finds now.
func (w *window) ipam() api.IPAM {
	out := api.IPAM{Blocks: len(w.loop.View().Leases), Findings: []api.Finding{}}
	if w.cluster != nil {
		l := w.cluster().Leader
		out.Leader = &l
	}
	for _, f := range w.loop.Audit() {
		finding := api.Finding{Object: f.Object, Problem: f.Sentence, Fix: f.Fix, Leak: f.Leak}
		for _, l := range f.Release {
			finding.Release = append(finding.Release, l.Prefix.String())
		}
		out.Findings = append(out.Findings, finding)
	}
	return out
}

// repair gives back what the audit says is of no use; only the leader may.
func (w *window) repair() (api.IPAM, error) {
	if !w.loop.View().Ready {
		return api.IPAM{}, errors.New("the cluster is not known yet")
	}
	if w.cluster != nil {
		if l := w.cluster().Leader; !l.Self {
			return api.IPAM{}, fmt.Errorf("this replica is not the leader and repairs nothing; ask %s", l.Shown())
		}
	}
	found := w.ipam()
	w.loop.Repair()
	return found, nil
}
