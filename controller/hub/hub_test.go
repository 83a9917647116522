package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vragent/vragent/controller/certs"
	"github.com/vragent/vragent/controller/hub/fake"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

const (
	vmi   = southbound.Type_TYPE_VMI
	lb    = southbound.Type_TYPE_LOAD_BALANCER
	block = southbound.Type_TYPE_BLOCK
	route = southbound.Type_TYPE_ROUTE

	types = len(southbound.Types)
)

// running is a Hub that serves on the loopback.
type running struct {
	*Hub
	t    *testing.T
	dir  string
	addr string
}

func start(t *testing.T, hold time.Duration) *running {
	t.Helper()
	dir := t.TempDir()
	request := certs.Request{Dir: dir, Addresses: []string{"127.0.0.1"}, Nodes: []string{"n1", "n2"}}
	if _, err := certs.Make(request, time.Now()); err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{TLS: filesIn(dir), Hold: hold, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error("Run:", err)
		}
	})
	return &running{h, t, dir, l.Addr().String()}
}

func filesIn(dir string) Files {
	return Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "controller.crt"), Key: filepath.Join(dir, "controller.key")}
}

// config is the agent of a node.
func (r *running) config(node string) fake.Config {
	return fake.Config{
		Address: r.addr, CA: filepath.Join(r.dir, "ca.crt"),
		Cert: filepath.Join(r.dir, node+".crt"), Key: filepath.Join(r.dir, node+".key"),
		Node: node, Tunnel: map[string]string{"n1": "192.0.2.1", "n2": "192.0.2.2"}[node],
	}
}

// dial connects an agent and lets it run.
func (r *running) dial(c fake.Config) (*fake.Agent, <-chan error) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a, err := fake.Dial(ctx, c)
	if err != nil {
		cancel()
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run() }()
	r.t.Cleanup(func() { cancel(); _ = a.Close() })
	return a, ended
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}

// resource has a body that says its value.
func resource(t southbound.Type, name, value string) *plan.Resource {
	return &plan.Resource{
		Key:  plan.Key{Type: t, Name: name},
		Wire: southbound.NewResource(t, name, &southbound.Block{Prefix: value}),
	}
}

func setOf(rs ...*plan.Resource) plan.Set {
	s := plan.Set{}
	for _, r := range rs {
		s[r.Key] = r
	}
	return s
}

// intents gives both nodes a shared set and one of their own.
func intents(shared plan.Set, own map[string]plan.Set) *plan.Intents {
	in := &plan.Intents{Sets: map[string]plan.Set{"shared": shared}, Nodes: map[string][]string{}}
	for _, n := range []string{"n1", "n2"} {
		in.Nodes[n] = []string{"shared", "node/" + n}
		in.Sets["node/"+n] = own[n]
	}
	return in
}

func holds(a *fake.Agent, want ...*plan.Resource) bool {
	held := a.Held()
	for _, r := range want {
		if held[r.Key] == nil || held[r.Key].Version != r.Wire.Version {
			return false
		}
	}
	return len(held) == len(want)
}

func TestAgentGetsItsSetsAndInSync(t *testing.T) {
	h := start(t, 0)
	s, mine, other := resource(lb, "web", "1"), resource(vmi, "a", "1"), resource(vmi, "b", "1")
	peer := resource(southbound.Type_TYPE_NODE, "n1", "1")
	peer.NotFor = "n1"
	a, _ := h.dial(h.config("n1")) // connected before anything is planned: it waits
	h.Publish(intents(setOf(s, peer), map[string]plan.Set{"n1": setOf(mine), "n2": setOf(other)}))
	b, _ := h.dial(h.config("n2"))
	eventually(t, "both in sync", func() bool { return a.Synced() == types && b.Synced() == types })
	if !holds(a, s, mine) || !holds(b, s, peer, other) {
		t.Error(a.Held(), b.Held())
	}
	changed := resource(lb, "web", "2")
	h.Publish(intents(setOf(changed), map[string]plan.Set{"n1": setOf(mine)}))
	eventually(t, "the change", func() bool { return holds(a, changed, mine) && holds(b, changed) })
	if _, upserts, removes := a.Received(); upserts != 3 || removes > 1 {
		t.Error("n1 was told too much:", upserts, removes)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	h := start(t, 0)
	elsewhere := t.TempDir()
	if _, err := certs.Make(certs.Request{Dir: elsewhere, Nodes: []string{"n1"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	good := h.config("n1")
	for name, c := range map[string]struct {
		change func(*fake.Config)
		code   codes.Code
	}{
		"another node's name":    {func(c *fake.Config) { c.Node = "n2" }, codes.PermissionDenied},
		"no tunnel address":      {func(c *fake.Config) { c.Tunnel = "" }, codes.PermissionDenied},
		"an IPv6 tunnel address": {func(c *fake.Config) { c.Tunnel = "2001:db8::1" }, codes.PermissionDenied},
		"no certificate":         {func(c *fake.Config) { c.Cert = "" }, codes.Unavailable},
		"another authority": {func(c *fake.Config) {
			c.Cert, c.Key = filepath.Join(elsewhere, "n1.crt"), filepath.Join(elsewhere, "n1.key")
		}, codes.Unavailable},
		"the controller's certificate": {func(c *fake.Config) {
			c.Cert, c.Key = filepath.Join(h.dir, "controller.crt"), filepath.Join(h.dir, "controller.key")
		}, codes.Unavailable},
	} {
		config := good
		c.change(&config)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		a, err := fake.Dial(ctx, config)
		if err == nil {
			err = a.Run()
			_ = a.Close()
		}
		if status.Code(err) != c.code && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	if len(h.Reports()) != 0 {
		t.Error("a stranger is known:", h.Reports())
	}
}

func TestResumeSendsOnlyDifferences(t *testing.T) {
	h := start(t, 0)
	same, changed, gone := resource(lb, "same", "1"), resource(lb, "changed", "1"), resource(vmi, "gone", "1")
	h.Publish(intents(setOf(same, changed), map[string]plan.Set{"n1": setOf(gone)}))
	first, _ := h.dial(h.config("n1"))
	eventually(t, "the first stream", func() bool { return first.Synced() == types })
	config := h.config("n1")
	config.Held = first.Held()
	_ = first.Close()

	now, fresh := resource(lb, "changed", "2"), resource(lb, "fresh", "1")
	h.Publish(intents(setOf(same, now, fresh), nil))
	again, _ := h.dial(config)
	eventually(t, "the second stream", func() bool { return again.Synced() == types })
	if !holds(again, same, now, fresh) {
		t.Error(again.Held())
	}
	if _, upserts, removes := again.Received(); upserts != 2 || removes != 1 {
		t.Errorf("%d upserts, %d removals instead of 2 and 1", upserts, removes)
	}
	config.Held = again.Held()
	_ = again.Close()
	third, _ := h.dial(config)
	eventually(t, "the third stream", func() bool { return third.Synced() == types })
	if replies, upserts, removes := third.Received(); replies != 1 || upserts+removes != 0 {
		t.Errorf("an agent that has all was told %d upserts, %d removals in %d responses", upserts, removes, replies)
	}
}

func TestOneResponseInFlightCoalesces(t *testing.T) {
	h := start(t, 0)
	h.Publish(intents(nil, nil))
	a, _ := h.dial(h.config("n1"))
	eventually(t, "in sync", func() bool { return a.Synced() == types })
	if err := a.Mute(true); err != nil {
		t.Fatal(err)
	}
	h.Publish(intents(setOf(resource(lb, "web", "0")), nil))
	eventually(t, "the response in flight", func() bool { return len(a.Held()) == 1 })
	var last *plan.Resource
	for i := range 100 {
		last = resource(lb, "web", fmt.Sprint(i))
		h.Publish(intents(setOf(last), nil))
	}
	key := map[plan.Key]bool{last.Key: true}
	if h.Settled(key)[last.Key] {
		t.Error("settled before the agent has acknowledged")
	}
	before, _, _ := a.Received()
	if err := a.Mute(false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last value", func() bool { return holds(a, last) })
	eventually(t, "settled", func() bool { return h.Settled(key)[last.Key] })
	if after, _, _ := a.Received(); after != before+1 {
		t.Errorf("100 changes took %d responses", after-before)
	}
}

func TestLargeSetsComeInParts(t *testing.T) {
	h := start(t, 0)
	set := plan.Set{}
	for i := range 60 {
		r := resource(lb, fmt.Sprint(i), strings.Repeat("x", 100_000))
		set[r.Key] = r
	}
	h.Publish(intents(set, nil))
	a, _ := h.dial(h.config("n1"))
	eventually(t, "in sync", func() bool { return a.Synced() == types })
	replies, upserts, _ := a.Received()
	if replies < 6 || upserts != 60 {
		t.Errorf("%d upserts in %d responses", upserts, replies)
	}
}

func TestClosedTypesWait(t *testing.T) {
	h := start(t, 0)
	web, a1 := resource(lb, "web", "1"), resource(vmi, "a", "1")
	stale := resource(lb, "stale", "1")
	config := h.config("n1")
	config.Held = map[plan.Key]*southbound.Resource{stale.Key: stale.Wire, web.Key: web.Wire}
	in := intents(setOf(web), map[string]plan.Set{"n1": setOf(a1)})
	h.Publish(in, lb, route)
	a, _ := h.dial(config)
	eventually(t, "the open types", func() bool { return a.Synced() == types-2 })
	if !holds(a, web, stale, a1) {
		t.Error(a.Held())
	}
	h.Publish(in)
	eventually(t, "all types", func() bool { return a.Synced() == types && holds(a, web, a1) })
	if _, upserts, removes := a.Received(); upserts != 1 || removes != 1 {
		t.Errorf("%d upserts, %d removals", upserts, removes)
	}
}

func TestUnknownNodeIsToldNothingUntilItIsKnown(t *testing.T) {
	h := start(t, 0)
	web := resource(lb, "web", "1")
	in := intents(setOf(web), nil)
	delete(in.Nodes, "n1")
	h.Publish(in)
	config := h.config("n1")
	config.Held = map[plan.Key]*southbound.Resource{resource(lb, "old", "1").Key: resource(lb, "old", "1").Wire}
	a, _ := h.dial(config)
	b, _ := h.dial(h.config("n2"))
	eventually(t, "n2", func() bool { return b.Synced() == types })
	if replies, _, _ := a.Received(); replies != 0 || len(h.Agents()) != 2 || h.Agents()[0].State != "unknown" {
		t.Error("told something:", replies, h.Agents())
	}
	h.Publish(intents(setOf(web), nil))
	eventually(t, "n1", func() bool { return a.Synced() == types && holds(a, web) })

	// It leaves the cluster for a while: what changed meanwhile comes later.
	other := resource(lb, "other", "1")
	in = intents(setOf(other), nil)
	delete(in.Nodes, "n1")
	h.Publish(in)
	eventually(t, "n2 again", func() bool { return holds(b, other) })
	if !holds(a, web) {
		t.Error("changed while unknown:", a.Held())
	}
	h.Publish(intents(setOf(other), nil))
	eventually(t, "n1 again", func() bool { return holds(a, other) })
}

func TestNacksAreShownUntilTaken(t *testing.T) {
	h := start(t, 0)
	h.Publish(intents(setOf(resource(lb, "web", "1")), nil))
	config := h.config("n1")
	config.Refuse = func(r *southbound.Resource) error {
		if r.GetVersion() == resource(lb, "web", "1").Wire.Version {
			return errors.New("no room")
		}
		return nil
	}
	h.dial(config)
	refusals := func() []string {
		if agents := h.Agents(); len(agents) == 1 {
			return agents[0].Refusals
		}
		return nil
	}
	eventually(t, "the refusal", func() bool { return slices.Equal(refusals(), []string{"TYPE_LOAD_BALANCER web: no room"}) })
	h.Publish(intents(setOf(resource(lb, "web", "2")), nil))
	eventually(t, "no refusal", func() bool { return len(refusals()) == 0 })
}

func TestWrongMessagesEndTheStream(t *testing.T) {
	h := start(t, 0)
	for name, m := range map[string]*southbound.FromAgent{
		"nothing":     {},
		"second Hi":   {Message: &southbound.FromAgent_Hello{Hello: &southbound.Hello{Node: "n1"}}},
		"foreign ack": {Message: &southbound.FromAgent_Ack{Ack: &southbound.Ack{Nonce: 77}}},
	} {
		a, ended := h.dial(h.config("n1"))
		if err := a.Send(m); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewerStreamTakesOver(t *testing.T) {
	h := start(t, 0)
	h.Publish(intents(nil, nil))
	_, ended := h.dial(h.config("n1"))
	eventually(t, "the first", func() bool { return len(h.Agents()) == 1 })
	second, _ := h.dial(h.config("n1"))
	if err := <-ended; status.Code(err) != codes.Aborted {
		t.Error(err)
	}
	eventually(t, "the second", func() bool { return second.Synced() == types })
	if s := h.Agents()[0].State; s != "replaying" {
		t.Error(s)
	}
}

func TestCertificatesAreReadAgain(t *testing.T) {
	h := start(t, 0)
	h.Publish(intents(nil, nil))
	if _, err := certs.Make(certs.Request{Dir: h.dir, Addresses: []string{"127.0.0.1"}, Nodes: []string{"n1"}, Renew: true}, time.Now()); err != nil {
		t.Fatal(err)
	}
	a, _ := h.dial(h.config("n1"))
	eventually(t, "in sync", func() bool { return a.Synced() == types })
}

func TestNewRefusesWrongFiles(t *testing.T) {
	h := start(t, 0)
	good := filesIn(h.dir)
	for name, f := range map[string]Files{
		"no such certificate": {CA: good.CA, Cert: filepath.Join(h.dir, "none"), Key: good.Key},
		"another's key":       {CA: good.CA, Cert: good.Cert, Key: filepath.Join(h.dir, "n1.key")},
		"no such authority":   {CA: filepath.Join(h.dir, "none"), Cert: good.Cert, Key: good.Key},
		"a key as authority":  {CA: good.Key, Cert: good.Cert, Key: good.Key},
	} {
		if _, err := New(Config{TLS: f, Log: slog.New(slog.DiscardHandler)}); err == nil {
			t.Error(name)
		}
	}
}

func addrs(in ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range in {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
