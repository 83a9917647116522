package enroll

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/dial"
	"github.com/vragent/vragent/controller/certs"
	"github.com/vragent/vragent/controller/hub"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

// tokens are known when they are the agent's.
type tokens struct{ t *testing.T }

func (k tokens) Node(_ context.Context, token string) (node, reason string, err error) {
	if token != "enroll-1" {
		return "", "token " + token + " is not known", nil
	}
	return "n1", "", nil
}

// replica is a real controller's hub.
type replica struct {
	*hub.Hub
	addr string
	stop func()
}

func newReplica(t *testing.T, authority *certs.Authority, addr string) *replica {
	t.Helper()
	h, err := hub.New(hub.Config{TLS: authority, Enroll: &hub.Enrollment{Tokens: tokens{t}, Signer: authority}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = h.Run(ctx, l) })
	r := &replica{Hub: h, addr: l.Addr().String(), stop: func() { cancel(); running.Wait() }}
	t.Cleanup(r.stop)
	return r
}

// at is an endpoint slice for addresses with ports of their own.
func at(addresses ...string) []map[string]any {
	var out []map[string]any
	for _, a := range addresses {
		host, port, _ := net.SplitHostPort(a)
		n, _ := strconv.Atoi(port)
		s := controller(host)
		s["ports"] = []map[string]any{{"name": "southbound", "port": n}}
		out = append(out, s)
	}
	return out
}

// node does with updates what an agent does.
type node struct {
	*dial.Southbound
	mu      sync.Mutex
	held    map[string]*southbound.ResourceVersion
	upserts int
	removes int
	synced  map[uint64]int // types, by stream
}

func (n *node) have() (out []*southbound.ResourceVersion) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, v := range n.held {
		out = append(out, v)
	}
	return out
}

func (n *node) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case u := <-n.Updates():
			n.mu.Lock()
			for _, r := range u.GetUpserts() {
				n.upserts++
				n.held[r.GetType().String()+r.GetName()] = &southbound.ResourceVersion{Type: r.GetType(), Name: r.GetName(), Version: r.GetVersion()}
			}
			n.removes += len(u.GetRemoves())
			n.synced[u.Attempt] += len(u.GetInSync())
			n.mu.Unlock()
			n.Ack(u, nil)
		}
	}
}

// complete says whether everything was said on that many streams.
func (n *node) complete(streams int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	whole := 0
	for _, types := range n.synced {
		if types == len(southbound.Types) {
			whole++
		}
	}
	return whole == streams
}

// start enrolls a node with the real RPC and lets it keep streams.
func start(t *testing.T, c *cluster) *node {
	t.Helper()
	k := c.keeper(t.TempDir())
	k.cfg.Sign = dial.Enroll
	run(t, k)
	n := &node{held: map[string]*southbound.ResourceVersion{}, synced: map[uint64]int{}}
	n.Southbound = dial.NewSouthbound(dial.SouthboundConfig{Node: "n1", Version: "test", Address: "192.0.2.1", Controllers: k, Log: slog.New(slog.DiscardHandler)}, n.have)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.Run(ctx) })
	running.Go(func() { n.work(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return n
}

// An agent finds two replicas, enrolls, is told by one and heard by both. When
// the one dies, the other takes over and has nothing to say: what both plan is
// the same. With both gone nothing is said at all.
func TestReplicas(t *testing.T) {
	c := newCluster(t)
	ca, key, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := certs.ParseAuthority(ca, key)
	if err != nil {
		t.Fatal(err)
	}
	replicas := map[string]*replica{}
	for range 2 {
		r := newReplica(t, authority, "127.0.0.1:0")
		replicas[r.addr] = r
		r.Publish(blocks())
	}
	var addresses []string
	for a := range replicas {
		addresses = append(addresses, a)
	}
	c.change(func() { c.caPEM, c.slices = string(ca), at(addresses...) })
	n := start(t, c)
	n.Publish(&dial.Local{Ready: true, VMIs: map[string]*southbound.VMIStatus{"u": {Uuid: "u", Addresses: []string{"192.0.2.9"}, Label: 20}}})
	heard := func(r *replica) func() bool {
		return func() bool { p := r.Reports()["n1"]; return p != nil && len(p.VMIs) == 1 }
	}
	for a, r := range replicas {
		eventually(t, a+" hears the node", heard(r))
	}
	eventually(t, "the primary has said everything", func() bool { return n.complete(1) })
	eventually(t, "two links", func() bool {
		links := n.Links()
		return len(links) == 2 && links[0].Primary && links[0].Connected && links[1].Connected
	})
	if n.upserts != 2 {
		t.Errorf("%d resources, want 2", n.upserts)
	}

	first := n.Links()[0].Address
	replicas[first].stop()
	eventually(t, "the other one has said everything", func() bool { return n.complete(2) })
	if n.upserts != 2 || n.removes != 0 {
		t.Errorf("failing over told %d resources again and removed %d", n.upserts-2, n.removes)
	}
	second := n.Link().Address
	if second == first {
		t.Errorf("the primary is still %s", first)
	}
	replicas[second].stop()
	eventually(t, "both are gone", func() bool { return !n.Link().Connected })
	eventually(t, "it says so of each", func() bool { l := n.Link(); return strings.Contains(l.Err, first) && strings.Contains(l.Err, second) })
	if len(n.have()) != 2 || n.removes != 0 {
		t.Errorf("with nobody there %d resources are held, %d removed", len(n.have()), n.removes)
	}
	back := newReplica(t, authority, first)
	back.Publish(blocks())
	eventually(t, "one is back", func() bool { return n.complete(3) })
	if n.upserts != 2 || n.removes != 0 {
		t.Errorf("coming back told %d resources again and removed %d", n.upserts-2, n.removes)
	}
	eventually(t, "it hears the node", heard(back))
}

// blocks is what each replica plans.
func blocks() *plan.Intents {
	own := plan.Set{}
	for _, prefix := range []string{"192.0.2.0/26", "2001:db8::/122"} {
		k := plan.Key{Type: southbound.Type_TYPE_BLOCK, Name: prefix}
		own[k] = &plan.Resource{Key: k, Wire: southbound.NewResource(k.Type, k.Name, &southbound.Block{Prefix: prefix})}
	}
	return &plan.Intents{Sets: map[string]plan.Set{"own": own}, Nodes: map[string][]string{"n1": {"own"}}}
}

// A refusal reaches the operator in the controller's own words.
func TestRefusedByTheController(t *testing.T) {
	c := newCluster(t)
	ca, key, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := certs.ParseAuthority(ca, key)
	if err != nil {
		t.Fatal(err)
	}
	r := newReplica(t, authority, "127.0.0.1:0")
	c.change(func() { c.caPEM, c.slices = string(ca), at(r.addr) })
	c.write("enroll", "stolen")
	k := c.keeper(filepath.Join(t.TempDir(), "s"))
	k.cfg.Sign = dial.Enroll
	run(t, k)
	eventually(t, "the reason", func() bool {
		_, sentence := k.State(time.Now())
		return strings.Contains(sentence, "does not enroll node n1: ") && strings.Contains(sentence, "token stolen is not known")
	})
	_, sentence := k.State(time.Now())
	t.Log(sentence)
}
