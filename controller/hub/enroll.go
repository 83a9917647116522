package hub

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/vragent/vragent/controller/southbound"
)

// Enrollment gives agents their certificates.
type Enrollment struct {
	Tokens Tokens
	Signer Signer
}

// Tokens knows where an agent runs.
type Tokens interface {
	// Node is the node of the pod that a token is bound to. An empty one is a
	// refusal, for the reason; an error means that nobody could be asked.
	Node(ctx context.Context, token string) (node, reason string, err error)
}

// Signer makes a node's certificate of a request that has been checked.
type Signer interface {
	SignNode(*x509.CertificateRequest, time.Time) (pem []byte, err error)
}

// enrollTimeout bounds one enrollment, the reading of the request included.
const enrollTimeout = 10 * time.Second

// enroll serves the only call that needs no certificate: whoever calls is a
// stranger until the token says otherwise.
type enroll struct {
	southbound.UnimplementedEnrollmentServer
	Enrollment

	log   *slog.Logger
	limit *limiter
}

// tap looks at a call before any of it is read: without a certificate only
// enrollment is open, and not to one address more often than it may.
func (e *enroll) tap(ctx context.Context, call *tap.Info) (context.Context, error) {
	if call.FullMethodName != southbound.Enrollment_Enroll_FullMethodName {
		if _, remote, err := identify(ctx); err != nil {
			e.log.Warn("agent refused", "remote", remote, "error", err)
			return ctx, status.Error(codes.Unauthenticated, err.Error())
		}
		return ctx, nil
	}
	if !e.limit.allow(remoteAddr(ctx), time.Now()) {
		return ctx, status.Error(codes.ResourceExhausted, "too many enrollments from this address; try again later")
	}
	return ctx, nil
}

// Enroll signs a certificate for the node that the token's pod runs on.
func (e *enroll) Enroll(ctx context.Context, r *southbound.EnrollRequest) (*southbound.EnrollResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	remote := remoteAddr(ctx)
	request, err := checkRequest(r.GetCsr())
	if err != nil {
		return nil, e.refuse(remote, "", err)
	}
	name := request.Subject.CommonName
	node, reason, err := e.Tokens.Node(ctx, r.GetToken())
	switch {
	case err != nil:
		e.log.Warn("enrollment cannot be decided", "node", name, "remote", remote, "error", err)
		return nil, status.Error(codes.Unavailable, "the token cannot be checked now: "+err.Error())
	case node == "":
		return nil, e.refuse(remote, name, errors.New(reason))
	case node != name:
		return nil, e.refuse(remote, name, fmt.Errorf("the request is for node %q, the token is of a pod on node %q", name, node))
	}
	pem, err := e.Signer.SignNode(request, time.Now())
	if err != nil {
		return nil, e.refuse(remote, name, err)
	}
	e.log.Info("agent enrolled", "node", node, "remote", remote)
	return &southbound.EnrollResponse{Certificate: pem}, nil
}

func (e *enroll) refuse(remote netip.Addr, node string, err error) error {
	e.log.Warn("enrollment refused", "node", node, "remote", remote, "error", err)
	return status.Error(codes.PermissionDenied, "enrollment refused: "+err.Error())
}

// checkRequest wants a request that its own key has signed.
func checkRequest(der []byte) (*x509.CertificateRequest, error) {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if request.Subject.CommonName == "" {
		return nil, errors.New("certificate request: names no node (its common name is empty)")
	}
	return request, nil
}

func remoteAddr(ctx context.Context) netip.Addr {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	host, _, _ := net.SplitHostPort(p.Addr.String())
	a, _ := netip.ParseAddr(host) // the zero Addr stands for all that have none
	return a.Unmap()
}

// A source may enroll a few times at once, and then once in a while; an agent
// needs it once in weeks.
const (
	enrollEvery = time.Second
	enrollBurst = 10
	maxSources  = 10_000 // remembered; beyond it, strangers wait for each other
)

// limiter lets each source address through at its own rate (GCRA).
type limiter struct {
	mu    sync.Mutex
	next  map[netip.Prefix]time.Time // when all that a source was allowed will have been earned
	swept time.Time
}

func newLimiter() *limiter { return &limiter{next: map[netip.Prefix]time.Time{}} }

func (l *limiter) allow(from netip.Addr, now time.Time) bool {
	bits := 32
	if from.Is6() {
		bits = 64 // one host has them all
	}
	source, _ := from.Prefix(bits) // of the zero Addr: the zero Prefix
	l.mu.Lock()
	defer l.mu.Unlock()
	at, known := l.next[source]
	if !known && !l.room(now) {
		return false
	}
	if at.Before(now) {
		at = now
	}
	if at.Sub(now) > (enrollBurst-1)*enrollEvery {
		return false
	}
	l.next[source] = at.Add(enrollEvery)
	return true
}

// room makes some when there is none, by forgetting who has earned all anew.
func (l *limiter) room(now time.Time) bool {
	if len(l.next) >= maxSources && now.Sub(l.swept) >= enrollEvery {
		l.swept = now
		maps.DeleteFunc(l.next, func(_ netip.Prefix, t time.Time) bool { return t.Before(now) })
	}
	return len(l.next) < maxSources
}
