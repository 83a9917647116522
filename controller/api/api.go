// Package api shows the object model over HTTP, in Contrail's field names, so
// that the chain from a load balancer to its members can be walked with curl; and
// it answers probes. It owns nothing: every request reads the last immutable
// model. It changes nothing but for one request, that to repair the addresses,
// and has no authentication of its own.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/vragent/vragent/controller/plan"
)

// Config is what a Server shows.
type Config struct {
	Model  func() *plan.Model
	Leases func() []plan.Lease
	Status func() Status
	Ready  func() bool          // the cluster is known
	IPAM   func() IPAM          // an audit of the addresses
	Repair func() (IPAM, error) // and its repair
	Log    *slog.Logger
}

// Status is the health of the controller.
type Status struct {
	Version   string     `json:"version"`
	Cluster   string     `json:"cluster"`
	State     string     `json:"state"` // reading-manifests, reading-cluster, waiting-for-nodes, running
	Healthy   bool       `json:"healthy"`
	Manifests string     `json:"manifests,omitempty"`  // the directory that is the source
	APIServer *APIServer `json:"api_server,omitempty"` // or the server
	Agents    []Agent    `json:"agents"`
	Problems  []Problem  `json:"problems"`
	Notices   []Problem  `json:"notices,omitempty"` // nothing is wrong, but not everything is implemented
	Counts    Counts     `json:"counts"`
	Leases    []Lease    `json:"leases"`
}

// Agent is one node's stream.
type Agent struct {
	Node          string    `json:"node"`
	State         string    `json:"state"` // connected, standby, replaying, stale, absent; unknown: connected, but no node of the cluster
	Remote        string    `json:"remote,omitempty"`
	TunnelAddress string    `json:"tunnel_address,omitempty"`
	AgentVersion  string    `json:"agent_version,omitempty"`
	Since         time.Time `json:"since,omitzero"` // in that state
	LastAck       time.Time `json:"last_ack,omitzero"`
	Pending       int       `json:"pending"` // resources not acknowledged yet
	VMIs          int       `json:"vmis"`
	Routes        int       `json:"routes"`
	Refusals      []string  `json:"refusals,omitempty"`
}

// Problem is a sentence about an object, and what to do about it where that is
// not in the sentence.
type Problem struct {
	Object  string `json:"object"`
	Problem string `json:"problem"`
	Fix     string `json:"fix,omitempty"`
}

// Counts say how large the cluster is.
type Counts struct {
	VirtualNetworks   int `json:"virtual_networks"`
	VirtualInterfaces int `json:"virtual_machine_interfaces"`
	LoadBalancers     int `json:"loadbalancers"`
	Members           int `json:"loadbalancer_members"`
}

// Lease is a node's block.
type Lease struct {
	VirtualNetwork string `json:"virtual_network"`
	Node           string `json:"node"`
	Prefix         string `json:"prefix"`
}

// Server is the REST API.
type Server struct {
	config Config
}

// New makes a Server.
func New(c Config) *Server { return &Server{c} }

// Run serves until the context ends, and waits for requests under way.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the API on %v: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	<-ended
	if errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}
	return err
}

// ServeHTTP answers /, /status, /ipam, /<type>s, /<type>/<uuid>, and probes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	switch {
	case r.Method == http.MethodPost && path == "ipam/repair":
		s.repair(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		s.fail(w, http.StatusMethodNotAllowed, "this API is read only, but for POST /ipam/repair: objects follow Kubernetes")
	case path == "healthz" || path == "readyz":
		s.health(w, path)
	case path == "status":
		s.answer(w, s.config.Status())
	case path == "ipam":
		s.answer(w, s.config.IPAM())
	default:
		s.object(w, r, path)
	}
}

// object answers for the object model.
func (s *Server) object(w http.ResponseWriter, r *http.Request, path string) {
	t := &tree{base: "http://" + r.Host, model: s.config.Model(), leases: s.config.Leases()}
	kind, uuid, single := strings.Cut(path, "/")
	switch {
	case path == "":
		s.answer(w, t.index())
	case single && t.objects(kind) != nil:
		o, found := t.find(kind, uuid)
		if !found {
			s.fail(w, http.StatusNotFound, fmt.Sprintf("no %s has the uuid %s; see %s/%ss", kind, uuid, t.base, kind))
			return
		}
		s.answer(w, map[string]any{kind: o})
	case !single && strings.HasSuffix(path, "s") && t.objects(path[:len(path)-1]) != nil:
		s.answer(w, map[string]any{path: t.list(path[:len(path)-1], r.URL.Query().Get("detail") == "true")})
	default:
		s.fail(w, http.StatusNotFound, fmt.Sprintf("there is nothing at /%s; see %s/", path, t.base))
	}
}

func (s *Server) answer(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(append(b, '\n')); err != nil {
		s.config.Log.Debug("api: client went away", "error", err)
	}
}

func (s *Server) fail(w http.ResponseWriter, code int, sentence string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": sentence}) // the client may be gone
}
