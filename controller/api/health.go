package api

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// APIServer is the controller's connection to Kubernetes.
type APIServer struct {
	Address   string    `json:"address"`
	Connected bool      `json:"connected"`       // all is read and followed, and the Lease is seen
	Since     time.Time `json:"since,omitzero"`  // in that state
	Error     string    `json:"error,omitempty"` // the last one, while not connected
	Waiting   []string  `json:"waiting,omitempty"`
	Leader    Leader    `json:"leader"`
}

// Leader is the replica that writes.
type Leader struct {
	Name  string    `json:"name,omitempty"` // empty: nobody
	Self  bool      `json:"self"`           // it is this one
	Since time.Time `json:"since,omitzero"`
}

// Shown is the leader's name for people.
func (l *Leader) Shown() string { return cmp.Or(l.Name, "nobody") }

// IPAM is what an audit of the addresses finds.
type IPAM struct {
	Leader   *Leader   `json:"leader,omitempty"` // nil: there is only this controller
	Blocks   int       `json:"blocks"`           // leased
	Findings []Finding `json:"findings"`
}

// Finding is one of them.
type Finding struct {
	Object  string   `json:"object"`
	Problem string   `json:"problem"`
	Fix     string   `json:"fix"`
	Leak    bool     `json:"leak"`              // costs addresses, harms no packet
	Release []string `json:"release,omitempty"` // blocks that a repair gives back
}

// Judge adds what is wrong with the replica and the agents to the problems, and
// decides whether all is well. Controllers and agents run in the namespace; in
// none without Kubernetes.
func (s *Status) Judge(namespace string) {
	var more []Problem
	if a := s.APIServer; a != nil {
		more = append(more, a.problems(namespace)...)
	}
	for _, a := range s.Agents {
		more = append(more, a.problems(namespace, s.APIServer != nil)...)
	}
	s.Problems = append(more, s.Problems...)
	s.Healthy = len(s.Problems) == 0
}

func (a *APIServer) problems(namespace string) []Problem {
	pods := "kubectl -n " + namespace + " get pods -l app=vrcontroller -o wide"
	switch {
	case !a.Connected:
		what := "does not serve this controller"
		if len(a.Waiting) > 0 {
			what += ", which has never read " + strings.Join(a.Waiting, ", ")
		}
		if a.Error != "" {
			what += ": " + a.Error
		}
		return []Problem{{"API server " + a.Address, what, "look at kube-apiserver and the way to it; nodes forward meanwhile, new pods and services wait"}}
	case a.Leader.Name == "":
		return []Problem{{"Leader", "no replica holds the Lease, so that nothing is written", "if it stays so: " + pods}}
	}
	return nil
}

func (a *Agent) problems(namespace string, kubernetes bool) []Problem {
	look := "look at its vragent: systemctl status vragent"
	if kubernetes {
		look = "look at its agent: kubectl -n " + namespace + " get pods -o wide --field-selector spec.nodeName=" + a.Node
	}
	object := "Node " + a.Node
	switch a.State {
	case "absent":
		return []Problem{{object, "no agent has connected", look}}
	case "stale":
		return []Problem{{object, "its agent is lost; its routes stay for a while", look}}
	case "unknown":
		return []Problem{{object, "its agent is connected, but the cluster has no such node", "join the node to the cluster, or stop the agent"}}
	}
	var out []Problem
	for _, r := range a.Refusals {
		out = append(out, Problem{object, "refuses " + r, look})
	}
	return out
}

// health answers the probes: alive is who answers, ready is who knows the cluster.
func (s *Server) health(w http.ResponseWriter, path string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if path == "readyz" && !s.config.Ready() {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "the cluster is not known yet")
		return
	}
	fmt.Fprintln(w, "ok")
}

// repair is the only request that changes anything. A page of a browser on this
// machine cannot send it: such requests have a type of their own.
func (s *Server) repair(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != "application/json" {
		s.fail(w, http.StatusUnsupportedMediaType, "say Content-Type: application/json")
		return
	}
	found, err := s.config.Repair()
	if err != nil {
		s.fail(w, http.StatusConflict, err.Error())
		return
	}
	released := 0
	for _, f := range found.Findings {
		released += len(f.Release)
	}
	s.config.Log.Info("repair of the addresses asked for", "remote", r.RemoteAddr, "blocks", released)
	s.answer(w, found)
}
