// Package fake is an agent without a node: it keeps what the controller says
// and acknowledges it, for tests of everything above the wire. An Agent owns
// its stream; it attaches no pods and forwards nothing.
package fake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

// Config says who the agent is and how it behaves.
type Config struct {
	Address string // of the controller
	CA      string // PEM files
	Cert    string
	Key     string
	TLS     *tls.Config // instead of the files
	Node    string
	Tunnel  string
	Standby bool                              // obeys another controller
	Held    map[plan.Key]*southbound.Resource // from an earlier stream
	// Refuse names the error with which a resource is not taken; nil takes all.
	Refuse func(*southbound.Resource) error
}

// Agent is one stream.
type Agent struct {
	config Config
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[southbound.FromAgent, southbound.ToAgent]

	mu      sync.Mutex
	held    map[plan.Key]*southbound.Resource
	synced  map[southbound.Type]bool
	upserts int // over all responses
	removes int
	replies int
	muted   bool   // does not acknowledge
	owed    uint64 // nonce that waits while muted; 0: none
}

// Dial opens the stream and says Hello.
func Dial(ctx context.Context, c Config) (*Agent, error) {
	creds, err := c.credentials()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(c.Address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	a := &Agent{config: c, conn: conn, held: map[plan.Key]*southbound.Resource{}, synced: map[southbound.Type]bool{}}
	hello := &southbound.Hello{Node: c.Node, AgentVersion: "fake", TunnelAddress: c.Tunnel, Standby: c.Standby}
	for k, r := range c.Held {
		a.held[k] = r
		hello.Have = append(hello.Have, &southbound.ResourceVersion{Type: k.Type, Name: k.Name, Version: r.Version})
	}
	a.stream, err = southbound.NewSouthboundClient(conn).Stream(ctx)
	if err == nil {
		err = a.stream.Send(&southbound.FromAgent{Message: &southbound.FromAgent_Hello{Hello: hello}})
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return a, nil
}

// Enroll asks for a certificate; the configuration needs none for it.
func Enroll(ctx context.Context, c Config, token string, csr []byte) ([]byte, error) {
	creds, err := c.credentials()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(c.Address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := southbound.NewEnrollmentClient(conn).Enroll(ctx, &southbound.EnrollRequest{Token: token, Csr: csr})
	return answer.GetCertificate(), err
}

func (c *Config) credentials() (credentials.TransportCredentials, error) {
	if c.TLS != nil {
		return credentials.NewTLS(c.TLS), nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", c.CA)
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(t), nil
}

// Run takes what the controller says until the stream ends.
func (a *Agent) Run() error {
	for {
		m, err := a.stream.Recv()
		if err != nil {
			return err
		}
		if ack := a.take(m); ack != nil {
			if err := a.send(ack); err != nil {
				return err
			}
		}
	}
}

// take applies one response; it returns the acknowledgement unless muted.
func (a *Agent) take(m *southbound.ToAgent) *southbound.FromAgent {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replies++
	ack := &southbound.Ack{Nonce: m.GetNonce()}
	for _, r := range m.GetUpserts() {
		a.upserts++
		if a.config.Refuse != nil {
			if err := a.config.Refuse(r); err != nil {
				ack.Nacks = append(ack.Nacks, &southbound.Nack{Type: r.GetType(), Name: r.GetName(), Error: err.Error()})
				continue
			}
		}
		a.held[plan.Key{Type: r.GetType(), Name: r.GetName()}] = r
	}
	for _, r := range m.GetRemoves() {
		a.removes++
		delete(a.held, plan.Key{Type: r.GetType(), Name: r.GetName()})
	}
	for _, t := range m.GetInSync() {
		a.synced[t] = true
	}
	if a.muted {
		a.owed = m.GetNonce()
		return nil
	}
	return &southbound.FromAgent{Message: &southbound.FromAgent_Ack{Ack: ack}}
}

// Mute makes the agent keep its acknowledgements to itself; unmuting sends the
// one that waits.
func (a *Agent) Mute(on bool) error {
	a.mu.Lock()
	owed := a.owed
	a.muted, a.owed = on, 0
	a.mu.Unlock()
	if on || owed == 0 {
		return nil
	}
	return a.send(&southbound.FromAgent{Message: &southbound.FromAgent_Ack{Ack: &southbound.Ack{Nonce: owed}}})
}

// Publish says something of the node.
func (a *Agent) Publish(p *southbound.Publish) error {
	return a.send(&southbound.FromAgent{Message: &southbound.FromAgent_Publish{Publish: p}})
}

// Send puts any message on the stream, also one that is wrong.
func (a *Agent) Send(m *southbound.FromAgent) error { return a.send(m) }

func (a *Agent) send(m *southbound.FromAgent) error {
	a.mu.Lock() // one sender at a time
	defer a.mu.Unlock()
	return a.stream.Send(m)
}

// Held is what the agent has.
func (a *Agent) Held() map[plan.Key]*southbound.Resource {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.held)
}

// Synced counts the types that are complete.
func (a *Agent) Synced() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.synced)
}

// Received counts responses, upserts and removals.
func (a *Agent) Received() (replies, upserts, removes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.replies, a.upserts, a.removes
}

// Close ends the stream without a word, as a crash does.
func (a *Agent) Close() error {
	return a.conn.Close()
}
