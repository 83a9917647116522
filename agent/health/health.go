// Package health answers load balancers that ask, over HTTP, whether this node has
// backends of a service (healthCheckNodePort). Run's goroutines own the listeners;
// what is to be said is handed in as a whole. It does not decide who is a backend.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vragent/vragent/agent/compile"
)

// retry is how often a port that could not be opened is tried again.
const retry = 5 * time.Second

// patience bounds a request; load balancers ask every few seconds.
const patience = 5 * time.Second

// Servers are the ports of this node that are asked.
type Servers struct {
	// Set once by New.
	healthy func() bool
	log     *slog.Logger
	kick    chan struct{}

	// Guarded by mu: written by Set and Run, read by anyone.
	mu     sync.Mutex
	wanted map[uint16]compile.Health
	faults map[uint16]string // why a port is not open

	// Owned by Run's goroutine.
	open map[uint16]*http.Server
}

// New prepares servers. healthy says whether the node itself can carry traffic.
func New(healthy func() bool, log *slog.Logger) *Servers {
	return &Servers{healthy: healthy, log: log, kick: make(chan struct{}, 1), open: map[uint16]*http.Server{}}
}

// Set says what is to be answered from now on. It never blocks.
func (s *Servers) Set(list []compile.Health) {
	wanted := map[uint16]compile.Health{}
	for _, h := range list {
		wanted[h.Port] = h
	}
	s.mu.Lock()
	s.wanted = wanted
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Problems are sentences about ports that are not open.
func (s *Servers) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Values(s.faults))
}

// Run keeps the ports open until ctx is done.
func (s *Servers) Run(ctx context.Context) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	defer s.close(map[uint16]compile.Health{})
	for {
		s.mu.Lock()
		wanted := s.wanted
		s.mu.Unlock()
		s.close(wanted)
		faults := map[uint16]string{}
		for port, h := range wanted {
			if s.open[port] != nil {
				continue
			}
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(int(port)))
			if err != nil {
				faults[port] = fmt.Sprintf("health checks of %s/%s: %v", h.Namespace, h.Service, err)
				continue
			}
			server := &http.Server{Handler: s.answer(port), ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: 4 * patience}
			s.open[port] = server
			serving.Go(func() {
				if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					s.log.Warn("health checks end", "port", port, "error", err)
				}
			})
		}
		s.note(faults)
		select {
		case <-ctx.Done():
			return nil
		case <-s.kick:
		case <-time.After(retry):
		}
	}
}

// close ends the servers of ports that are not wanted.
func (s *Servers) close(wanted map[uint16]compile.Health) {
	for port, server := range s.open {
		if _, ok := wanted[port]; !ok {
			_ = server.Close()
			delete(s.open, port)
		}
	}
}

func (s *Servers) note(faults map[uint16]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for port, sentence := range faults {
		if s.faults[port] != sentence {
			s.log.Warn("a port cannot be opened", "port", port, "what", sentence)
		}
	}
	s.faults = faults
}

// verdict is written as kube-proxy does: load balancers read it.
type verdict struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints int  `json:"localEndpoints"`
	Healthy        bool `json:"serviceProxyHealthy"`
}

func (s *Servers) answer(port uint16) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		h := s.wanted[port]
		s.mu.Unlock()
		v := verdict{LocalEndpoints: h.Endpoints, Healthy: s.healthy()}
		v.Service.Namespace, v.Service.Name = h.Namespace, h.Service
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(h.Endpoints))
		if h.Endpoints == 0 || !v.Healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(v) // who has hung up does not care
	}
}
