package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	pb "github.com/vragent/vragent/controller/southbound"
)

// SouthboundConfig says where the controllers are and who we are to them.
type SouthboundConfig struct {
	Node      string
	Version   string // of the agent
	Address   string // of our tunnels
	Addresses []string
	CA        string // PEM files
	Cert      string
	Key       string
	Log       *slog.Logger
}

// Update is one response of a controller. It is acknowledged on the stream it came by.
type Update struct {
	Attempt uint64 // numbers the streams
	*pb.ToAgent
}

// Southbound keeps one stream to a controller, trying them in turn.
type Southbound struct {
	// Set once by NewSouthbound.
	cfg     SouthboundConfig
	have    func() []*pb.ResourceVersion // what the agent holds, asked at each connect
	updates chan Update
	kick    chan struct{}

	// Guarded by mu.
	mu      sync.Mutex
	attempt uint64
	acks    []*pb.Ack // of this stream, to be sent
	publish *Local    // the whole local state, to be told
	link    Link
}

// Link is the health of the stream.
type Link struct {
	Connected bool
	Address   string // of the controller
	Since     time.Time
	Err       string
}

// NewSouthbound prepares a stream; Run keeps it.
func NewSouthbound(cfg SouthboundConfig, have func() []*pb.ResourceVersion) *Southbound {
	return &Southbound{cfg: cfg, have: have, updates: make(chan Update), kick: make(chan struct{}, 1),
		publish: NewLocal(), link: Link{Since: time.Now(), Err: "not connected yet"}}
}

// Updates delivers responses in order; the next comes when this one is acknowledged.
func (s *Southbound) Updates() <-chan Update { return s.updates }

// Link returns the health of the stream.
func (s *Southbound) Link() Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}

// Ack says that everything of an update is in the fast path, or why not.
func (s *Southbound) Ack(u Update, nacks []*pb.Nack) {
	s.mu.Lock()
	if u.Attempt == s.attempt {
		s.acks = append(s.acks, &pb.Ack{Nonce: u.Nonce, Nacks: nacks})
	}
	s.mu.Unlock()
	s.wake()
}

// Publish says the whole local state; the stream tells what is new in it.
func (s *Southbound) Publish(l *Local) {
	s.mu.Lock()
	s.publish = l
	s.mu.Unlock()
	s.wake()
}

func (s *Southbound) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// steady is how long a stream must have lived for the next attempt to come at once.
const steady = 10 * time.Second

// Run keeps a stream until ctx is done.
func (s *Southbound) Run(ctx context.Context) error {
	retry := backoff{least: 250 * time.Millisecond, most: 10 * time.Second}
	for i := 0; ctx.Err() == nil; i++ {
		address := s.cfg.Addresses[i%len(s.cfg.Addresses)]
		began := time.Now()
		err := s.connect(ctx, address)
		if ctx.Err() != nil {
			break
		}
		s.down(address, err)
		if time.Since(began) > steady {
			retry.reset()
		}
		retry.wait(ctx)
	}
	return nil
}

func (s *Southbound) down(address string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link.Connected || s.link.Err == "not connected yet" {
		s.cfg.Log.Warn("controller lost: forwarding goes on with what is known", "controller", address, "error", err)
		s.link.Since = time.Now()
	}
	s.link.Connected, s.link.Address, s.link.Err = false, address, err.Error()
}

// connect keeps one stream until it breaks.
func (s *Southbound) connect(ctx context.Context, address string) error {
	creds, err := s.credentials(address)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewSouthboundClient(conn).Stream(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.FromAgent{Message: &pb.FromAgent_Hello{Hello: &pb.Hello{
		Node: s.cfg.Node, AgentVersion: s.cfg.Version, TunnelAddress: s.cfg.Address, Have: s.have()}}}); err != nil {
		return streamError(stream, err)
	}
	attempt := s.begin()
	r := &receiver{s: s, attempt: attempt, address: address, stream: stream, done: make(chan error, 1)}
	r.Run(ctx)
	err = s.talk(ctx, stream, r.done)
	cancel()
	r.wait.Wait()
	return err
}

// begin begins a stream: acknowledgements of older ones are void.
func (s *Southbound) begin() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempt++
	s.acks = nil
	return s.attempt
}

// talk sends acknowledgements and news until the stream breaks.
func (s *Southbound) talk(ctx context.Context, stream pb.Southbound_StreamClient, done <-chan error) error {
	told := NewLocal()
	first := true
	for {
		s.mu.Lock()
		acks, now := s.acks, s.publish
		s.acks = nil
		s.mu.Unlock()
		for _, a := range acks {
			if err := stream.Send(&pb.FromAgent{Message: &pb.FromAgent_Ack{Ack: a}}); err != nil {
				return <-done // the receiver learns why
			}
		}
		if p := now.since(told); p != nil || first && now.Ready {
			if p == nil {
				p = &pb.Publish{}
			}
			p.InSync = first && now.Ready
			first = first && !now.Ready
			if err := stream.Send(&pb.FromAgent{Message: &pb.FromAgent_Publish{Publish: p}}); err != nil {
				return <-done // the receiver learns why
			}
			told = now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-done:
			return err
		case <-s.kick:
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
	s       *Southbound
	attempt uint64
	address string
	stream  pb.Southbound_StreamClient
	done    chan error
	wait    sync.WaitGroup
}

// Run reads until the stream breaks or ctx is done; connect waits for it.
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
		r.s.up(r.address)
		select {
		case r.s.updates <- Update{Attempt: r.attempt, ToAgent: m}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// up notes that a controller has spoken.
func (s *Southbound) up(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.link.Connected {
		s.cfg.Log.Info("controller connected", "controller", address)
		s.link = Link{Connected: true, Address: address, Since: time.Now()}
	}
}

// credentials reads the certificates anew for each connection: they may have been
// replaced meanwhile.
func (s *Southbound) credentials(address string) (credentials.TransportCredentials, error) {
	cert, err := tls.LoadX509KeyPair(s.cfg.Cert, s.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate of this node: %w (controller.cert, controller.key)", err)
	}
	ca, err := os.ReadFile(s.cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w (controller.ca)", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("certificate authority %s: %w", s.cfg.CA, errors.New("no certificate in it"))
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("controller address %s: %w", address, err)
	}
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS13}), nil
}
