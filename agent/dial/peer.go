package dial

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	pb "github.com/vragent/vragent/controller/southbound"
)

// peer is one controller and the stream to it.
type peer struct {
	// Set once by newPeer and follow.
	s       *Southbound
	address string
	stop    context.CancelFunc
	kick    chan struct{} // there may be something to say
	retry   chan struct{} // waiting is over

	// Guarded by Southbound.mu.
	link Link
	end  context.CancelCauseFunc // of the present stream

	// Owned by keep.
	conn *grpc.ClientConn // nil: none
}

func newPeer(s *Southbound, address string) *peer {
	return &peer{
		s: s, address: address, kick: make(chan struct{}, 1), retry: make(chan struct{}, 1),
		link: Link{Address: address, Since: time.Now(), Err: "not connected yet"},
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (p *peer) wake()  { poke(p.kick) }
func (p *peer) hurry() { poke(p.retry) }

const (
	// steady is how long a stream must have lived for the next attempt to come at once.
	steady = 10 * time.Second

	// dialTime bounds the attempt to reach a controller: another one may be there.
	dialTime = 5 * time.Second

	// settled is when a standby's stream counts as accepted: nothing is said on it.
	settled = 300 * time.Millisecond

	// silence is how long a primary may say nothing at all while others could.
	silence = 15 * time.Second
)

var (
	errPromoted = errors.New("becomes the primary")
	errSilent   = errors.New("connected, but it has said nothing within " + silence.String())
	errGone     = errors.New("is no controller any more")
)

// keep keeps a stream until ctx is done.
func (p *peer) keep(ctx context.Context) {
	defer p.hangUp()
	pause := pauses{least: 250 * time.Millisecond, most: 10 * time.Second}
	for {
		began := time.Now()
		err := p.converse(ctx)
		switch {
		case ctx.Err() != nil:
			p.s.lost(p, errGone)
			return
		case errors.Is(err, errPromoted):
			continue
		}
		p.hangUp()
		p.s.lost(p, plain(err))
		if time.Since(began) > steady {
			pause.reset()
		}
		pause.wait(ctx, p.retry)
	}
}

func (p *peer) hangUp() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// connection returns the connection; a stream that is begun anew keeps it.
func (p *peer) connection() (*grpc.ClientConn, error) {
	if p.conn != nil {
		return p.conn, nil
	}
	conn, err := dialTLS(p.s.cfg.Controllers, p.address)
	p.conn = conn
	return conn, err
}

func dialTLS(c Controllers, address string) (*grpc.ClientConn, error) {
	t, err := c.TLS(address)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(t)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: dialTime}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
}

// converse keeps one stream until it breaks.
func (p *peer) converse(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	attempt, full := p.s.begin(p, end)
	conn, err := p.connection()
	if err != nil {
		return err
	}
	stream, err := pb.NewSouthboundClient(conn).Stream(ctx)
	if err != nil {
		return err
	}
	hello := &pb.Hello{Node: p.s.cfg.Node, AgentVersion: p.s.cfg.Version, TunnelAddress: p.s.cfg.Address, Standby: !full}
	if full {
		hello.Have = p.s.have()
	}
	if err := stream.Send(&pb.FromAgent{Message: &pb.FromAgent_Hello{Hello: hello}}); err != nil {
		return streamError(stream, err)
	}
	r := &receiver{p: p, attempt: attempt, full: full, stream: stream, done: make(chan error, 1), heard: make(chan struct{}, 1)}
	r.Run(ctx)
	err = p.talk(ctx, r)
	cause := context.Cause(ctx)
	end(nil)
	r.wait.Wait()
	if errors.Is(cause, errPromoted) {
		return errPromoted
	}
	return err
}

// talk sends acknowledgements and news until the stream breaks.
func (p *peer) talk(ctx context.Context, r *receiver) error {
	told := NewLocal()
	first := true
	patience := time.NewTimer(silence)
	defer patience.Stop()
	if !r.full {
		patience.Reset(settled)
	}
	for {
		acks, now := p.s.news(r.full)
		for _, a := range acks {
			if err := r.stream.Send(&pb.FromAgent{Message: &pb.FromAgent_Ack{Ack: a}}); err != nil {
				return <-r.done // the receiver learns why
			}
		}
		if m := now.since(told); m != nil || first && now.Ready {
			if m == nil {
				m = &pb.Publish{}
			}
			m.InSync = first && now.Ready
			first = first && !now.Ready
			if err := r.stream.Send(&pb.FromAgent{Message: &pb.FromAgent_Publish{Publish: m}}); err != nil {
				return <-r.done // the receiver learns why
			}
			told = now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-r.done:
			return err
		case <-p.kick:
		case <-r.heard:
			patience.Stop()
		case <-patience.C:
			if !r.full {
				p.s.up(p, false)
			} else if p.s.spare(p) {
				return errSilent
			} else {
				patience.Reset(silence)
			}
		}
	}
}

// streamError finds the reason behind a failed first Send: gRPC keeps it for Recv.
func streamError(stream pb.Southbound_StreamClient, err error) error {
	if _, cause := stream.Recv(); cause != nil {
		return cause
	}
	return err
}

// receiver reads one stream.
type receiver struct {
	p       *peer
	attempt uint64
	full    bool
	stream  pb.Southbound_StreamClient
	done    chan error
	heard   chan struct{} // the primary has spoken
	wait    sync.WaitGroup
}

// Run reads until the stream breaks or ctx is done; converse waits for it.
func (r *receiver) Run(ctx context.Context) {
	r.wait.Add(1)
	go func() {
		defer r.wait.Done()
		r.done <- r.read(ctx)
	}()
}

func (r *receiver) read(ctx context.Context) error {
	for {
		m, err := r.stream.Recv()
		if err != nil {
			return err
		}
		if !r.full {
			continue // a controller that does not know of standbys
		}
		poke(r.heard)
		r.p.s.up(r.p, true)
		select {
		case r.p.s.updates <- Update{Attempt: r.attempt, ToAgent: m}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
