package converge

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

// scene is a source, the agents and a store in one, all by hand.
type scene struct {
	mu       sync.Mutex
	cluster  *plan.Cluster
	problems []plan.Problem
	reports  map[string]*plan.Report
	settled  bool
	stale    bool
	broken   error // of the store
	leases   []plan.Lease

	saved     int
	gave      []plan.Lease
	published []*plan.Intents
	closed    []southbound.Type
	changes   chan struct{}
	log       bytes.Buffer
}

func (s *scene) Cluster() *plan.Cluster           { s.mu.Lock(); defer s.mu.Unlock(); return s.cluster }
func (s *scene) Fresh() bool                      { return !s.stale }
func (s *scene) Problems() []plan.Problem         { return slices.Clone(s.problems) }
func (s *scene) Changes() <-chan struct{}         { return s.changes }
func (s *scene) Reports() map[string]*plan.Report { return s.reports }

func (s *scene) Publish(in *plan.Intents, closed ...southbound.Type) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published, s.closed = append(s.published, in), closed
}

func (s *scene) Settled(keys map[plan.Key]bool) map[plan.Key]bool {
	out := map[plan.Key]bool{}
	for k := range keys {
		out[k] = s.settled
	}
	return out
}

// store keeps leases in memory.
type store struct{ *scene }

func (s store) Leases() []plan.Lease     { return s.leases }
func (s store) Changes() <-chan struct{} { return nil }
func (s store) Problems() []plan.Problem { return nil }
func (s store) Keep(out *plan.Output) error {
	s.gave = append(s.gave, out.Leases.Delete...)
	if s.broken != nil || len(out.Leases.Create) == 0 {
		return s.broken
	}
	s.saved++
	s.leases = append(s.leases, out.Leases.Create...)
	return nil
}

var (
	start  = time.Unix(1000, 0)
	pod    = plan.Pod{Meta: plan.Meta{Namespace: "default", Name: "a", UID: "uid-a"}, Node: "n1"}
	vip    = netip.MustParseAddr("203.0.113.10")
	lease  = plan.Lease{Network: "k8s-default-pod-network", Node: "n1", Prefix: netip.MustParsePrefix("198.51.100.0/26")}
	vmiKey = plan.Key{Type: southbound.Type_TYPE_VMI, Name: plan.VMIUUID(&pod)}
)

func newScene() *scene {
	return &scene{
		changes: make(chan struct{}, 1),
		reports: map[string]*plan.Report{},
		cluster: &plan.Cluster{
			Nodes:    []plan.Node{{Meta: plan.Meta{Name: "n1"}}},
			Pods:     []plan.Pod{pod},
			Services: []plan.Service{{Meta: plan.Meta{Namespace: "default", Name: "web", UID: "uid-web"}, VIPs: []netip.Addr{vip}, Ports: []plan.ServicePort{{Protocol: plan.TCP, Port: 80}}}},
			Slices: []plan.EndpointSlice{{
				Meta: plan.Meta{Namespace: "default", Name: "web"}, Service: "web",
				Ports:     []plan.EndpointPort{{Protocol: plan.TCP, Port: 8080}},
				Endpoints: []plan.Endpoint{{Address: netip.MustParseAddr("198.51.100.2"), Pod: &plan.PodRef{Name: "a"}}},
			}},
		},
	}
}

func (s *scene) loop(leases ...plan.Lease) *Loop {
	s.leases = leases
	return New(Config{
		Plan: plan.Config{
			Cluster:        "k8s",
			PodSubnets:     []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
			ServiceSubnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
			BlockBits4:     26, BlockBits6: 122,
		},
		Source: s, Agents: s, Store: store{s},
		Log: slog.New(slog.NewTextHandler(&s.log, nil)),
	})
}

// web is the port map of the service; elsewhere leads to another port.
var (
	web       = map[plan.PortMapKey]uint16{{VIP: vip, Protocol: plan.TCP, Port: 80}: 8080}
	elsewhere = map[plan.PortMapKey]uint16{{VIP: vip, Protocol: plan.TCP, Port: 80}: 8081}
)

// report says that n1 has its pod, and which port maps are in its fast path.
func (s *scene) report(synced bool, has map[plan.PortMapKey]uint16) {
	s.reports = map[string]*plan.Report{"n1": {
		Node: "n1", Tunnel: netip.MustParseAddr("192.0.2.1"), Synced: synced,
		VMIs: map[string]plan.AttachedVMI{vmiKey.Name: {Label: 20, Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.2")}, PortMaps: has}},
	}}
}

func (s *scene) last() *plan.Intents { return s.published[len(s.published)-1] }

func (s *scene) version() string { return s.last().Sets["node/n1"][vmiKey].Wire.Version }

func TestNothingIsPublishedBeforeTheClusterIsKnown(t *testing.T) {
	s := newScene()
	s.cluster, s.problems = nil, []plan.Problem{{Object: "Manifest x", Sentence: "broken"}}
	l := s.loop()
	l.turn(start)
	if v := l.View(); len(s.published) != 0 || v.Ready || v.Settling || len(v.Model.Problems) != 1 {
		t.Error(s.published, l.View())
	}
}

func TestALeaseIsOnDiskBeforeAnybodyHearsOfIt(t *testing.T) {
	s := newScene()
	l := s.loop()
	s.report(true, nil)
	s.broken = errors.New("disk full")
	l.turn(start)
	key := plan.Key{Type: southbound.Type_TYPE_BLOCK, Name: lease.Network + "/" + lease.Prefix.String()}
	if s.last().Sets["node/n1"][key] != nil || !l.wake.Equal(start.Add(retry)) {
		t.Error("a lease that is not on disk was published, or is not tried again")
	}
	if p := l.View().Model.Problems; len(p) != 1 || p[0] != (plan.Problem{Object: "State", Sentence: "disk full"}) {
		t.Error(p)
	}
	s.broken = nil
	l.turn(start)
	l.turn(start)
	if s.last().Sets["node/n1"][key] == nil || s.saved != 1 || len(l.View().Model.Problems) != 0 {
		t.Error(s.saved, l.View().Model.Problems)
	}
	if log := s.log.String(); strings.Count(log, "msg=problem ") != 1 || strings.Count(log, `msg="problem solved"`) != 1 {
		t.Error("transitions, not activity:", log)
	}
}

func TestWhatMayBeOldIsSaidToBe(t *testing.T) {
	s := newScene()
	l := s.loop()
	s.stale = true
	l.turn(start)
	if !s.last().Stale {
		t.Error("while the source is away")
	}
	s.stale = false
	l.turn(start)
	if s.last().Stale {
		t.Error("when it is back")
	}
}

func TestAFreshClusterWaitsForNobody(t *testing.T) {
	s := newScene()
	l := s.loop()
	l.turn(start)
	if l.View().Settling || len(s.closed) != 0 {
		t.Error(s.closed)
	}
}

func TestASuccessorWaits(t *testing.T) {
	s := newScene()
	l := s.loop(lease)
	waits := func() bool {
		l.turn(start.Add(time.Second))
		return len(s.closed) == 3 && l.View().Settling && l.wake.Equal(start.Add(time.Second+DefaultSettle))
	}
	if !waits() {
		t.Error("not for the node")
	}
	s.report(false, web)
	if !waits() {
		t.Error("not for the end of its replay")
	}
	s.report(true, elsewhere)
	if !waits() {
		t.Error("not for the acknowledgement")
	}
	s.report(true, web)
	if waits() {
		t.Error("for ever")
	}
	s.reports = nil // once settled it stays so
	if waits() {
		t.Error("again")
	}
}

func TestASuccessorDoesNotWaitForEver(t *testing.T) {
	s := newScene()
	l := s.loop(lease)
	l.turn(start)
	l.turn(start.Add(DefaultSettle - time.Second))
	if len(s.closed) != 3 {
		t.Error("too early")
	}
	l.turn(start.Add(DefaultSettle))
	if len(s.closed) != 0 || !strings.Contains(s.log.String(), "going on without them") {
		t.Error(s.closed, s.log.String())
	}
}

func TestASuccessorDoesNotWaitForNodesThatAreGone(t *testing.T) {
	s := newScene()
	l := s.loop(plan.Lease{Network: lease.Network, Node: "gone", Prefix: lease.Prefix})
	l.turn(start)
	if len(s.closed) != 0 {
		t.Error(s.closed)
	}
}

// A port map whose member is gone stays until the agents have settled, which is
// a change, or for the hold time, at whose end the loop looks without being told.
func TestPortMapsGoLast(t *testing.T) {
	s := newScene()
	l := s.loop()
	l.turn(start)
	s.report(true, web)
	l.turn(start)
	s.cluster.Slices = nil
	with := s.version()
	l.turn(start)
	if s.version() != with || !l.wake.After(start) || l.wake.After(start.Add(plan.HoldTime)) {
		t.Error("the port map went with the member, or nothing ends its time:", l.wake)
	}
	l.turn(start.Add(time.Second))
	if s.version() != with || !l.wake.Equal(start.Add(plan.HoldTime)) {
		t.Error("the port map went before the agents had settled")
	}
	s.settled = true
	l.turn(start.Add(2 * time.Second))
	if s.version() == with || !l.wake.Equal(start.Add(auditEvery)) {
		t.Error("the port map stays", l.wake)
	}
}

// An audit's finding is a problem when it is found twice; a leak is a notice,
// and is given back at once when somebody asks.
func TestAudit(t *testing.T) {
	s := newScene()
	l := s.loop(plan.Lease{Network: lease.Network, Node: "gone", Prefix: netip.MustParsePrefix("198.51.100.64/26")})
	s.cluster.Services = append(s.cluster.Services, s.cluster.Services[0])
	s.cluster.Services[1].Name, s.cluster.Services[1].UID, s.cluster.Services[1].Headless = "twin", "uid-twin", false
	s.cluster.Services[1].VIPs, s.cluster.Services[1].Outside = nil, plan.Outside{LoadBalancer: true, Ingress: []netip.Addr{vip}}
	count := func() (problems, notices int) {
		for _, p := range l.View().Model.Problems {
			if strings.Contains(p.Sentence, "which Service default/web has too") {
				problems++
			}
		}
		for _, n := range l.View().Model.Notices {
			if n.Object == "Node gone" {
				notices++
			}
		}
		return problems, notices
	}
	l.turn(start)
	if p, n := count(); p+n != 0 || l.wake.After(start.Add(auditEvery)) {
		t.Error("found once:", p, n, l.wake)
	}
	l.turn(start.Add(auditEvery))
	if p, n := count(); p != 1 || n != 1 {
		t.Error("found twice:", p, n, l.View().Model)
	}
	if f := l.Audit(); len(f) < 2 {
		t.Error(f)
	}
	l.Repair()
	<-l.asked
	l.turn(time.Now())
	if !slices.ContainsFunc(s.gave, func(l plan.Lease) bool { return l.Node == "gone" }) {
		t.Error("not given back:", s.gave)
	}
}

func TestRunPlansAfterChanges(t *testing.T) {
	s := newScene()
	l := s.loop()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	count := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.published) }
	for want := 1; want <= 3; want++ {
		for end := time.Now().Add(10 * time.Second); count() < want; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no plan", want)
			}
		}
		s.changes <- struct{}{}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
