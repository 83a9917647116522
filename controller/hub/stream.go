package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

type wire = grpc.BidiStreamingServer[southbound.FromAgent, southbound.ToAgent]

// stream is one agent, connected.
type stream struct {
	// Set once by Stream
	hub     *Hub
	wire    wire
	node    string
	remote  string
	standby bool // the agent obeys another controller: it is only listened to
	since   time.Time
	end     context.CancelCauseFunc
	due     chan struct{} // has a value when there may be something to send

	// Guarded by Hub.mu
	out     *outbox
	said    said
	lastAck time.Time
	refused map[plan.Key]string // by the agent, with its reason
}

// poke makes the sender look; it never blocks.
func (s *stream) poke() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

var errSuperseded = errors.New("a newer stream of this node took over")

// Stream serves one agent: its certificate names the node, its Hello says what
// it holds; then publications and acknowledgements come up while differences
// go down.
func (h *Hub) Stream(w wire) error {
	node, remote, err := identify(w.Context())
	if err != nil {
		return h.refuse(node, remote, codes.Unauthenticated, err)
	}
	first, err := w.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	tunnel, err := checkHello(node, hello)
	if err != nil {
		return h.refuse(node, remote, codes.PermissionDenied, err)
	}
	ctx, end := context.WithCancelCause(w.Context())
	defer end(nil)
	s := &stream{
		hub: h, wire: w, node: node, remote: remote, standby: hello.GetStandby(), since: time.Now(), end: end,
		due: make(chan struct{}, 1), out: newOutbox(node, hello.GetHave()), said: newSaid(), refused: map[plan.Key]string{},
	}
	h.connect(s, tunnel, hello.GetAgentVersion())
	err = s.Run(ctx)
	h.disconnect(s, err)
	return err
}

func (h *Hub) refuse(node, remote string, code codes.Code, err error) error {
	h.log.Warn("agent refused", "node", node, "remote", remote, "error", err)
	return status.Error(code, err.Error())
}

// identify reads the node's name from the certificate that TLS has verified.
func identify(ctx context.Context) (node, remote string, err error) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return "", "", errors.New("no peer")
	}
	remote = p.Addr.String()
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return "", remote, errors.New("no verified certificate")
	}
	if node = info.State.VerifiedChains[0][0].Subject.CommonName; node == "" {
		return "", remote, errors.New("the certificate names no node (its common name is empty)")
	}
	return node, remote, nil
}

func checkHello(node string, hello *southbound.Hello) (netip.Addr, error) {
	if hello == nil {
		return netip.Addr{}, errors.New("the first message is no Hello")
	}
	if hello.GetNode() != node {
		return netip.Addr{}, fmt.Errorf("the agent says it is node %q, its certificate is that of node %q", hello.GetNode(), node)
	}
	a, err := netip.ParseAddr(hello.GetTunnelAddress())
	if err != nil || !a.Is4() || !a.IsGlobalUnicast() {
		return netip.Addr{}, fmt.Errorf("tunnel address %q is no IPv4 unicast address", hello.GetTunnelAddress())
	}
	return a, nil
}

// Run sends and receives until one of the two fails or a newer stream takes
// over. A blocked Recv or Send ends only after Run's caller has returned to
// gRPC; Hub.Run waits for both.
func (s *stream) Run(ctx context.Context) error {
	failed := make(chan error, 2)
	s.hub.streams.Add(2)
	go func() { defer s.hub.streams.Done(); failed <- s.receive() }()
	go func() { defer s.hub.streams.Done(); failed <- s.send(ctx) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errSuperseded) {
			return status.Error(codes.Aborted, errSuperseded.Error())
		}
		return ctx.Err()
	}
}

// send writes whatever is due.
func (s *stream) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.due:
		}
		if s.standby {
			continue
		}
		s.hub.mu.Lock()
		m := s.out.next(s.hub.intents, s.hub.closed)
		s.hub.mu.Unlock()
		if m == nil {
			continue
		}
		if err := s.wire.Send(m); err != nil {
			return err
		}
	}
}

// receive takes what the agent says.
func (s *stream) receive() error {
	for {
		m, err := s.wire.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.hub.take(s, m)
		}
		if err != nil {
			return err
		}
	}
}

// take is one message of a connected agent.
func (h *Hub) take(s *stream, m *southbound.FromAgent) error {
	switch {
	case m.GetAck() != nil:
		return h.acknowledge(s, m.GetAck())
	case m.GetPublish() != nil:
		h.publish(s, m.GetPublish())
		return nil
	}
	return status.Error(codes.InvalidArgument, "neither an Ack nor a Publish")
}

func (h *Hub) acknowledge(s *stream, a *southbound.Ack) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys, err := s.out.acknowledge(a.GetNonce())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	s.lastAck = time.Now()
	for k := range keys {
		delete(s.refused, k)
		if h.awaited[k] {
			h.change()
		}
	}
	for _, n := range a.GetNacks() {
		k := plan.Key{Type: n.GetType(), Name: n.GetName()}
		if _, sent := keys[k]; sent {
			s.refused[k] = n.GetError()
			h.log.Warn("agent refused a resource", "node", s.node, "type", k.Type, "name", k.Name, "error", n.GetError())
		}
	}
	s.poke()
	return nil
}

// publish takes over the agent's local state, if the stream is still its own.
func (h *Hub) publish(s *stream, p *southbound.Publish) {
	h.mu.Lock()
	defer h.mu.Unlock()
	peer := h.peers[s.node]
	if peer == nil || peer.stream != s {
		return
	}
	report, faults := absorb(peer.report, p, s.said)
	peer.report = report
	if p.GetInSync() {
		peer.synced(s.said)
	}
	for _, f := range faults {
		h.log.Warn("agent says what cannot be", "node", s.node, "error", f)
	}
	h.change()
}
