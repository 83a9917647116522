package dial

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	pb "github.com/vragent/vragent/controller/southbound"
)

// Controllers says where the controllers are and who we are to them. Both may
// change at any time.
type Controllers interface {
	Addresses() []string // host:port
	Changed() <-chan struct{}
	TLS(address string) (*tls.Config, error) // asked for each connection
}

// SouthboundConfig says who we are to the controllers.
type SouthboundConfig struct {
	Node        string
	Version     string // of the agent
	Address     string // of our tunnels
	Controllers Controllers
	Log         *slog.Logger
}

// Update is one response of the primary. It is acknowledged on the stream it came by.
type Update struct {
	Attempt uint64 // numbers the full streams
	*pb.ToAgent
}

// Southbound keeps a stream to every controller: a full one to the primary, from
// which alone updates come, and report-only ones to the standbys, which are told
// what the primary is told. A lost primary is replaced at once; when it is back
// it is a standby.
type Southbound struct {
	// Set once by NewSouthbound.
	cfg     SouthboundConfig
	have    func() []*pb.ResourceVersion // what the agent holds, asked at each full stream
	updates chan Update

	// Guarded by mu.
	mu      sync.Mutex
	peers   map[string]*peer // by address
	primary *peer            // nil: nobody; who connects next is
	down    time.Time        // since when there is none that speaks
	attempt uint64
	acks    []*pb.Ack // of the full stream, to be sent
	publish *Local    // the whole local state, to be told
}

// Link is the health of the stream to one controller.
type Link struct {
	Address   string
	Primary   bool
	Connected bool
	Since     time.Time
	Err       string
}

// NewSouthbound prepares the streams; Run keeps them.
func NewSouthbound(cfg SouthboundConfig, have func() []*pb.ResourceVersion) *Southbound {
	return &Southbound{cfg: cfg, have: have, updates: make(chan Update), peers: map[string]*peer{}, down: time.Now(), publish: NewLocal()}
}

// Updates delivers responses in order; the next comes when this one is acknowledged.
func (s *Southbound) Updates() <-chan Update { return s.updates }

// Link returns the health of the stream to the primary. While none speaks, it
// says why none of the controllers does.
func (s *Southbound) Link() Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary != nil && s.primary.link.Connected {
		return s.primary.link
	}
	out := Link{Since: s.down, Err: "no controller's address is known yet"}
	var reasons []string
	for _, p := range s.order() {
		if out.Address == "" || p == s.primary {
			out.Address = p.address
		}
		reasons = append(reasons, p.address+": "+p.link.Err)
	}
	if len(reasons) > 0 {
		out.Err = strings.Join(reasons, "; ")
	}
	return out
}

// Links returns the health of all streams, the primary's first.
func (s *Southbound) Links() []Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Link
	for _, p := range s.order() {
		l := p.link
		if l.Primary = p == s.primary; l.Primary {
			out = slices.Insert(out, 0, l)
			continue
		}
		out = append(out, l)
	}
	return out
}

// Ack says that everything of an update is in the fast path, or why not.
func (s *Southbound) Ack(u Update, nacks []*pb.Nack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Attempt == s.attempt {
		s.acks = append(s.acks, &pb.Ack{Nonce: u.Nonce, Nacks: nacks})
	}
	if s.primary != nil {
		s.primary.wake()
	}
}

// Publish says the whole local state; every stream tells what is new in it.
func (s *Southbound) Publish(l *Local) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publish = l
	for _, p := range s.peers {
		p.wake()
	}
}

// Run keeps the streams until ctx is done.
func (s *Southbound) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		s.follow(ctx, &running)
		select {
		case <-ctx.Done():
			return nil
		case <-s.cfg.Controllers.Changed():
		}
	}
}

// follow begins with controllers that are new and ends with those that are gone.
// When no address is known, the last ones stay.
func (s *Southbound) follow(ctx context.Context, running *sync.WaitGroup) {
	addresses := s.cfg.Controllers.Addresses()
	if len(addresses) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var fresh []*peer
	for _, a := range addresses {
		if s.peers[a] == nil {
			s.peers[a] = newPeer(s, a)
			fresh = append(fresh, s.peers[a])
		}
	}
	for a, p := range s.peers {
		if !slices.Contains(addresses, a) {
			delete(s.peers, a)
			p.stop()
		}
	}
	if s.primary == nil && len(fresh) > 0 {
		s.primary = slices.MinFunc(fresh, s.compare)
	}
	for _, p := range fresh {
		var own context.Context
		own, p.stop = context.WithCancel(ctx)
		running.Go(func() { p.keep(own) })
	}
}

// order lists the controllers as this node prefers them.
func (s *Southbound) order() []*peer {
	list := make([]*peer, 0, len(s.peers))
	for _, p := range s.peers {
		list = append(list, p)
	}
	slices.SortFunc(list, s.compare)
	return list
}

// compare orders by rendezvous hash: the agents of a cluster spread over its
// controllers, and each finds the same ones again.
func (s *Southbound) compare(a, b *peer) int {
	weight := func(p *peer) uint64 {
		sum := sha256.Sum256([]byte(s.cfg.Node + " " + p.address))
		return binary.BigEndian.Uint64(sum[:])
	}
	return cmp.Compare(weight(b), weight(a))
}

// begin begins a stream of p and says what it is: full if p is the primary, or
// becomes it because nobody is.
func (s *Southbound) begin(p *peer, end context.CancelCauseFunc) (attempt uint64, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.end = end
	if s.primary == nil {
		s.primary = p
	}
	if s.primary != p {
		return 0, false
	}
	s.attempt++
	s.acks = nil // those of older streams are void
	return s.attempt, true
}

// up notes that p's stream works.
func (s *Southbound) up(p *peer, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !full && s.primary == nil {
		s.promote(p) // it connected as a standby of one that is lost by now
	}
	if !full && s.primary == p {
		return // this stream is over
	}
	if !p.link.Connected {
		s.cfg.Log.Info("controller connected", "controller", p.address, "primary", full)
		p.link = Link{Address: p.address, Connected: true, Since: time.Now()}
	}
}

// lost notes that p's stream broke, and finds another primary if p was it: a
// standby that is connected, else whoever connects first.
func (s *Southbound) lost(p *peer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := p.link
	p.link = Link{Address: p.address, Since: was.Since, Err: err.Error()}
	if was.Connected {
		p.link.Since = time.Now()
	}
	if was.Connected && !errors.Is(err, errGone) {
		s.cfg.Log.Warn("controller lost: forwarding goes on with what is known", "controller", p.address, "primary", s.primary == p, "error", err)
	}
	if s.primary != p {
		return
	}
	if was.Connected {
		s.down = p.link.Since
	}
	s.primary = nil
	others := slices.DeleteFunc(s.order(), func(q *peer) bool { return q == p })
	for _, q := range others {
		if q.link.Connected {
			s.promote(q)
			return
		}
	}
	for _, q := range others {
		if was.Connected || was.Err == errPromoted.Error() {
			q.hurry()
		}
	}
}

// promote makes a connected standby the primary: its stream is begun anew.
func (s *Southbound) promote(p *peer) {
	s.primary = p
	p.link.Connected, p.link.Err, p.link.Since = false, errPromoted.Error(), time.Now()
	p.end(errPromoted)
}

// spare says whether another controller could take p's place.
func (s *Southbound) spare(p *peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.peers {
		if q != p && q.link.Connected {
			return true
		}
	}
	return false
}

// news returns what a stream has to send: acknowledgements on the full one, and
// the state of the node.
func (s *Southbound) news(full bool) (acks []*pb.Ack, now *Local) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if full {
		acks, s.acks = s.acks, nil
	}
	return acks, s.publish
}
