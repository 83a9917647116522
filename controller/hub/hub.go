// Package hub speaks to the agents: one gRPC stream each, over mutual TLS, and
// one call for those that have no certificate yet. The Hub owns what every
// agent said last (as immutable plan.Reports) and what it still has to be told;
// both sit behind one lock that is never held while anything is sent or
// received. It does not decide what a node is to hold.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

// DefaultHold is how long the routes of a node stay after its stream is lost.
const DefaultHold = 120 * time.Second

// A stream whose peer is silent for pingAfter+pingTimeout is lost.
const (
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

// maxReceive bounds one message of an agent: a Hello with 250,000 names.
const maxReceive = 64 << 20 // bytes

// Config is what a Hub is made of.
type Config struct {
	TLS    Credentials
	Enroll *Enrollment   // nil: agents get their certificates elsewhere
	Hold   time.Duration // 0: DefaultHold
	Log    *slog.Logger
}

// Hub is the controller's side of all streams.
type Hub struct {
	southbound.UnimplementedSouthboundServer

	// Set once by New
	hold    time.Duration
	log     *slog.Logger
	creds   credentials.TransportCredentials
	enroll  *enroll // nil: not offered
	changed chan struct{}
	streams sync.WaitGroup // their goroutines

	// Guarded by mu
	mu      sync.Mutex
	intents *plan.Intents // nil: nothing planned yet, nothing is sent
	closed  map[southbound.Type]bool
	awaited map[plan.Key]bool // somebody waits for their acknowledgement
	peers   map[string]*peer
}

// New reads the certificates, so that a wrong one is found at once.
func New(c Config) (*Hub, error) {
	creds, err := c.TLS.ServerTLS(c.Log)
	if err != nil {
		return nil, err
	}
	if c.Hold == 0 {
		c.Hold = DefaultHold
	}
	h := &Hub{
		hold:    c.Hold,
		log:     c.Log,
		creds:   credentials.NewTLS(creds),
		changed: make(chan struct{}, 1),
		peers:   map[string]*peer{},
	}
	if c.Enroll != nil {
		h.enroll = &enroll{Enrollment: *c.Enroll, log: c.Log, limit: newLimiter()}
	}
	return h, nil
}

// Run serves until the context ends, and then waits for every stream.
func (h *Hub) Run(ctx context.Context, l net.Listener) error {
	options := []grpc.ServerOption{
		grpc.Creds(h.creds),
		grpc.MaxRecvMsgSize(maxReceive),
		grpc.SharedWriteBuffer(true),
		grpc.WaitForHandlers(true), // so that no stream begins after Stop
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
	}
	if h.enroll != nil {
		options = append(options, grpc.InTapHandle(h.enroll.tap))
	}
	server := grpc.NewServer(options...)
	southbound.RegisterSouthboundServer(server, h)
	if h.enroll != nil {
		southbound.RegisterEnrollmentServer(server, h.enroll)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	err := h.expire(ctx, ended)
	server.Stop()
	h.streams.Wait()
	if ctx.Err() != nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("serve agents on %v: %w", l.Addr(), err)
}

// expire withdraws what lost nodes announced, when its time has come.
func (h *Hub) expire(ctx context.Context, ended <-chan error) error {
	tick := time.NewTicker(min(max(h.hold/20, 10*time.Millisecond), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case now := <-tick.C:
			h.withdraw(now)
		}
	}
}

// Changes has a value when Reports may say something new.
func (h *Hub) Changes() <-chan struct{} { return h.changed }

func (h *Hub) change() {
	select {
	case h.changed <- struct{}{}:
	default: // one is already waiting: it covers this change too
	}
}

// Reports is what the agents say, by node.
func (h *Hub) Reports() map[string]*plan.Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[string]*plan.Report, len(h.peers))
	for node, p := range h.peers {
		out[node] = p.report
	}
	return out
}

// Publish says what every node is to hold from now on. Resources of closed
// types are held back, and so is the word that they are complete.
func (h *Hub) Publish(in *plan.Intents, closed ...southbound.Type) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.intents
	h.intents = in
	h.closed = map[southbound.Type]bool{}
	for _, t := range closed {
		h.closed[t] = true
	}
	changes := diff(old, in)
	for _, p := range h.peers {
		if p.served() {
			p.stream.out.update(old, in, changes)
			p.stream.poke()
		}
	}
}

// Settled tells which of the keys every connected agent has acknowledged as
// they were last published. Changes tells when to ask again.
func (h *Hub) Settled(keys map[plan.Key]bool) map[plan.Key]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.awaited = keys
	out := map[plan.Key]bool{}
	for k := range keys {
		out[k] = true
		for _, p := range h.peers {
			if p.owes(k) {
				out[k] = false
				break
			}
		}
	}
	return out
}
