package write

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/vragent/vragent/controller/certs"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/watch/kube/apitest"
)

const objects = `apiVersion: v1
kind: Namespace
metadata: {name: vragent-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: vragent, namespace: vragent-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: other, namespace: vragent-system}
---
apiVersion: v1
kind: Pod
metadata: {name: agent-1, namespace: vragent-system}
spec: {nodeName: n1, serviceAccountName: vragent, containers: [{name: a, image: a}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other-1, namespace: vragent-system}
spec: {nodeName: n1, serviceAccountName: other, containers: [{name: a, image: a}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: default}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]}
`

// TestAgainstAnAPIServer shares one server: it takes seconds to start.
func TestAgainstAnAPIServer(t *testing.T) {
	s := apitest.Start(t)
	s.Define(t, "../../packaging/helm/vragent/crds")
	s.Apply(t, objects)
	b := &bench{s}
	t.Run("Authority", b.authority)
	t.Run("Tokens", b.tokens)
	t.Run("OneClaimWins", b.oneClaimWins)
	t.Run("OverlapIsRefused", b.overlap)
	t.Run("ReleaseMeansOneObject", b.release)
	t.Run("Status", b.status)
	t.Run("OneLeader", b.oneLeader)
	t.Run("Outage", b.outage)
}

type bench struct{ *apitest.Server }

var quick = Times{Lease: 3 * time.Second, Renew: 2 * time.Second, Retry: 200 * time.Millisecond}

func (b *bench) writer(t *testing.T, name string) *Writer {
	t.Helper()
	w, err := New(Config{
		REST: b.Config, Namespace: "vragent-system", LeaseName: strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")),
		Identity: name + "_" + time.Now().Format("150405.000000000"), Account: "vragent", Pod: b.pod, Times: quick,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// inOffice is a writer that believes to be the leader.
func (b *bench) inOffice(t *testing.T, name string) *Writer {
	t.Helper()
	w := b.writer(t, name)
	w.fence.open(time.Now().Add(time.Hour))
	var err error
	if w.ledger, err = w.learn(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// pod is what the source would know.
func (b *bench) pod(namespace, name string) (plan.Pod, bool) {
	w, err := New(Config{REST: b.Config})
	if err != nil {
		return plan.Pod{}, false
	}
	var p corev1.Pod
	if err := w.core.Get().Namespace(namespace).Resource("pods").Name(name).Do(context.Background()).Into(&p); err != nil {
		return plan.Pod{}, false
	}
	return plan.Pod{Meta: plan.Meta{Namespace: namespace, Name: name, UID: string(p.UID)}, Node: p.Spec.NodeName}, true
}

func (b *bench) blocks(t *testing.T, w *Writer) []plan.Lease {
	t.Helper()
	l, err := w.learn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []plan.Lease
	for _, b := range l.blocks {
		out = append(out, b.lease)
	}
	return out
}

// run is a replica; the result ends it.
func run(t *testing.T, w *Writer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}

func lease(node, prefix string) plan.Lease {
	return plan.Lease{Network: "k8s-default-pod-network", Node: node, Prefix: netip.MustParsePrefix(prefix)}
}

// Of several controllers that start at once, one makes the authority.
func (b *bench) authority(t *testing.T) {
	var wait sync.WaitGroup
	found := make([]string, 4)
	for i := range found {
		w := b.writer(t, "w")
		wait.Go(func() {
			cert, key, err := w.Authority(t.Context(), certs.NewAuthority)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := certs.ParseAuthority(cert, key); err != nil {
				t.Error(err)
			}
			found[i] = string(cert) + string(key)
		})
	}
	wait.Wait()
	if slices.Sort(found); found[0] != found[len(found)-1] {
		t.Error("several authorities")
	}
	w := b.writer(t, "w")
	var m corev1.ConfigMap
	read := func() string {
		if err := w.core.Get().Namespace("vragent-system").Resource("configmaps").Name(authorityName).Do(t.Context()).Into(&m); err != nil {
			t.Fatal(err)
		}
		return m.Data[authorityCert]
	}
	good := read()
	if !strings.HasPrefix(found[0], good) || strings.Contains(good, "PRIVATE") {
		t.Error("agents find another authority, or its key")
	}
	b.Apply(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: vragent-ca, namespace: vragent-system}\ndata: {ca.crt: other}\n")
	if _, _, err := w.Authority(t.Context(), certs.NewAuthority); err != nil || read() != good {
		t.Error("a wrong ConfigMap stays:", err)
	}
}

// token asks the API server for one, as kubelet does for a pod.
func (b *bench) token(t *testing.T, account, pod, audience string) string {
	t.Helper()
	w := b.writer(t, "w")
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	if pod != "" {
		p, _ := b.pod("vragent-system", pod)
		r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod, UID: types.UID(p.UID)}
	}
	err := w.core.Post().Namespace("vragent-system").Resource("serviceaccounts").Name(account).SubResource("token").Body(r).Do(t.Context()).Into(r)
	if err != nil {
		t.Fatal(err)
	}
	return r.Status.Token
}

func (b *bench) tokens(t *testing.T) {
	w := b.writer(t, "w")
	if node, reason, err := w.Node(t.Context(), b.token(t, "vragent", "agent-1", TokenAudience)); node != "n1" || err != nil {
		t.Error(node, reason, err)
	}
	for name, x := range map[string]struct{ token, want string }{
		"none":          {"", "there is no token"},
		"garbage":       {"x.y.z", "not valid for audience vragent"},
		"for the API":   {b.token(t, "vragent", "agent-1", "https://kubernetes.default.svc"), "not valid for audience vragent"},
		"another's":     {b.token(t, "other", "other-1", TokenAudience), "is that of system:serviceaccount:vragent-system:other"},
		"without a pod": {b.token(t, "vragent", "", TokenAudience), "not bound to a pod"},
	} {
		if node, reason, err := w.Node(t.Context(), x.token); node != "" || !strings.Contains(reason, x.want) || err != nil {
			t.Errorf("%s: %q %q %v", name, node, reason, err)
		}
	}
	w.config.Pod = func(string, string) (plan.Pod, bool) { return plan.Pod{}, false }
	if _, _, err := w.Node(t.Context(), b.token(t, "vragent", "agent-1", TokenAudience)); err == nil {
		t.Error("a pod that is not known yet is no refusal")
	}
}

// Two controllers that both believe to be the leader give one block to one node.
func (b *bench) oneClaimWins(t *testing.T) {
	one, two := b.inOffice(t, "one"), b.inOffice(t, "two")
	const n = 20
	var wait sync.WaitGroup
	errs := make([]error, 2*n)
	for i := range n {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 40, byte(i), 0}), 26).String()
		wait.Go(func() { errs[2*i] = one.claim(t.Context(), lease("n1", prefix)) })
		wait.Go(func() { errs[2*i+1] = two.claim(t.Context(), lease("n2", prefix)) })
	}
	wait.Wait()
	for i := range n {
		if (errs[2*i] == nil) == (errs[2*i+1] == nil) {
			t.Errorf("block %d: %v, %v", i, errs[2*i], errs[2*i+1])
		}
	}
	seen := map[netip.Prefix]bool{}
	for _, l := range b.blocks(t, one) {
		if seen[l.Prefix] {
			t.Error("given twice:", l)
		}
		seen[l.Prefix] = true
	}
	if len(seen) != n {
		t.Error(len(seen))
	}
	// Who made it is told that all is well, also by a successor in office.
	for i := range n {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 40, byte(i), 0}), 26).String()
		node := "n1"
		if errs[2*i] != nil {
			node = "n2"
		}
		if err := b.inOffice(t, "three").claim(t.Context(), lease(node, prefix)); err != nil {
			t.Error(err)
		}
	}
}

// Names guard blocks of one size only; the ledger guards the rest.
func (b *bench) overlap(t *testing.T) {
	w := b.inOffice(t, "w")
	if err := w.claim(t.Context(), lease("n1", "10.41.0.0/26")); err != nil {
		t.Fatal(err)
	}
	for _, other := range []plan.Lease{lease("n2", "10.41.0.5/32"), lease("n2", "10.41.0.0/24"), {Network: "k8s-a-pod-network", Node: "n2", Prefix: netip.MustParsePrefix("10.41.0.0/27")}} {
		if err := w.claim(t.Context(), other); err == nil || !strings.Contains(err.Error(), "overlaps 10.41.0.0/26, which node n1 holds") {
			t.Error(other, err)
		}
	}
	// Somebody deletes the block by hand: it is made again, or makes room.
	for _, again := range []plan.Lease{lease("n1", "10.41.0.0/26"), lease("n2", "10.41.0.5/32")} {
		w.ledger.put(blockName(lease("n1", "10.41.0.0/26")), block{lease: lease("n1", "10.41.0.0/26"), uid: "x"})
		b.Delete(t, "apiVersion: vragent.io/v1alpha1\nkind: IPBlock\nmetadata: {name: "+blockName(lease("n1", "10.41.0.0/26"))+"}\n")
		if err := w.claim(t.Context(), again); !errors.Is(err, errLater) {
			t.Error(err)
		}
		if err := w.claim(t.Context(), again); err != nil || !slices.Contains(b.blocks(t, w), again) {
			t.Error("not made again:", again, err)
		}
	}
	own := plan.Lease{Network: "k8s-a:red", Node: "n2", Prefix: netip.MustParsePrefix("10.41.0.0/26")}
	if err := w.claim(t.Context(), own); err != nil {
		t.Error("a network with addresses of its own:", err)
	}
}

// What was deleted and made again meanwhile is not what was to be given back.
func (b *bench) release(t *testing.T) {
	stale, l := b.inOffice(t, "stale"), lease("n1", "10.42.0.0/26")
	if err := stale.claim(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	other := b.inOffice(t, "other")
	if err := other.release(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if err := other.claim(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if err := stale.release(t.Context(), l); !errors.Is(err, errLater) {
		t.Error(err)
	}
	if !slices.Contains(b.blocks(t, stale), l) {
		t.Error("another object was deleted")
	}
	for range 2 {
		if err := other.release(t.Context(), l); err != nil {
			t.Error(err)
		}
	}
	if slices.Contains(b.blocks(t, stale), l) {
		t.Error("it is still there")
	}
	byHand := lease("n9", "10.42.1.0/26")
	b.Apply(t, "apiVersion: vragent.io/v1alpha1\nkind: IPBlock\nmetadata: {name: "+blockName(byHand)+"}\nspec: {network: "+
		byHand.Network+", node: n9, prefix: 10.42.1.0/26}\n")
	if err := other.release(t.Context(), byHand); err != nil {
		t.Error(err)
	}
	if slices.Contains(b.blocks(t, stale), byHand) {
		t.Error("what was made by hand is still there")
	}
}

func (b *bench) service(t *testing.T, w *Writer, name string) *corev1.Service {
	t.Helper()
	s, err := w.service(t.Context(), serviceKey{"default", name})
	if err != nil || s == nil {
		t.Fatal(s, err)
	}
	return s
}

// An address is written once, stays over restarts, and is nobody else's.
func (b *bench) status(t *testing.T) {
	w := b.inOffice(t, "w")
	web, api := b.service(t, w, "web"), b.service(t, w, "api")
	vip, v6 := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9")
	of := func(s *corev1.Service, a ...netip.Addr) plan.Status {
		return plan.Status{Namespace: "default", Name: s.Name, UID: string(s.UID), Addresses: a}
	}
	for range 2 {
		if err := w.status(t.Context(), of(web, vip, v6)); err != nil {
			t.Fatal(err)
		}
	}
	now := b.service(t, w, "web")
	in := now.Status.LoadBalancer.Ingress
	if len(in) != 2 || in[0].IP != vip.String() || in[0].IPMode == nil || *in[0].IPMode != corev1.LoadBalancerIPModeVIP {
		t.Fatal(in)
	}
	next := b.inOffice(t, "next")
	if err := next.status(t.Context(), of(web, vip, v6)); err != nil || b.service(t, w, "web").ResourceVersion != now.ResourceVersion {
		t.Error("written again after a restart", err)
	}
	if err := next.status(t.Context(), of(api, vip)); err == nil || !strings.Contains(err.Error(), "still that of Service default/web") {
		t.Error(err)
	}
	gone := of(web, vip)
	gone.UID = "another"
	if err := next.status(t.Context(), gone); err != nil || len(b.service(t, w, "web").Status.LoadBalancer.Ingress) != 2 {
		t.Error("a service of the same name was written to", err)
	}
	if err := next.status(t.Context(), of(web, v6)); err != nil {
		t.Error(err)
	}
	if err := next.status(t.Context(), of(api, vip)); err != nil {
		t.Error("an address that is free again:", err)
	}
	if err := next.status(t.Context(), of(web)); err != nil || len(b.service(t, w, "web").Status.LoadBalancer.Ingress) != 0 {
		t.Error("not taken away", err)
	}
}

// Of two replicas one writes; the other takes over when it stops, and at once.
func (b *bench) oneLeader(t *testing.T) {
	one, two := b.writer(t, "one"), b.writer(t, "two")
	stop := run(t, one)
	eventually(t, "the first leader", func() bool { return one.Leader().Self })
	run(t, two)
	eventually(t, "the other knows", func() bool { return two.Leader().Name == "one" && !two.Leader().Self })
	_ = one.Keep(&plan.Output{Leases: plan.Leases{Create: []plan.Lease{lease("n1", "10.43.0.0/26")}}})
	_ = two.Keep(&plan.Output{Leases: plan.Leases{Create: []plan.Lease{lease("n2", "10.43.0.0/26"), lease("n2", "10.43.0.64/26")}}})
	eventually(t, "the block", func() bool { return slices.Contains(b.blocks(t, one), lease("n1", "10.43.0.0/26")) })
	if slices.Contains(b.blocks(t, one), lease("n2", "10.43.0.64/26")) {
		t.Error("a replica that is not the leader writes")
	}
	since := time.Now()
	stop()
	eventually(t, "the second leader", func() bool { return two.Leader().Self })
	if took := time.Since(since); took > quick.Lease {
		t.Error("the office was not given back:", took)
	}
	eventually(t, "its block", func() bool { return slices.Contains(b.blocks(t, one), lease("n2", "10.43.0.64/26")) })
	if slices.Contains(b.blocks(t, one), lease("n2", "10.43.0.0/26")) {
		t.Error("given twice")
	}
	eventually(t, "the problem", func() bool {
		p := two.Problems()
		return len(p) == 1 && strings.Contains(p[0].Sentence, "10.43.0.0/26 is leased to node n1")
	})
	if err := one.fenced(t.Context(), func(context.Context) error { t.Error("written"); return nil }); !errors.Is(err, errNoOffice) {
		t.Error(err)
	}
}

// While the API server is away nothing is written; after that all that is wished for is.
func (b *bench) outage(t *testing.T) {
	w := b.writer(t, "w")
	run(t, w)
	eventually(t, "the leader", func() bool { return w.Leader().Self })
	b.Stop(t)
	_ = w.Keep(&plan.Output{Leases: plan.Leases{Create: []plan.Lease{lease("n1", "10.44.0.0/26")}}})
	eventually(t, "the end of the office", func() bool { return time.Now().After(w.fence.end()) })
	eventually(t, "a word about it", func() bool { return w.Leader().Error != "" })
	if err := w.fenced(t.Context(), func(context.Context) error { t.Error("written"); return nil }); !errors.Is(err, errNoOffice) {
		t.Error(err)
	}
	b.Resume(t)
	eventually(t, "the block", func() bool { return slices.Contains(b.blocks(t, w), lease("n1", "10.44.0.0/26")) })
	eventually(t, "no problem", func() bool { return len(w.Problems()) == 0 && w.Leader().Error == "" })
}

func TestNobodyInOfficeWritesNothing(t *testing.T) {
	w, err := New(Config{REST: &rest.Config{Host: "https://192.0.2.1"}})
	if err != nil {
		t.Fatal(err)
	}
	write := func(ctx context.Context) error {
		if end, limited := ctx.Deadline(); !limited || end.After(w.fence.end()) {
			t.Error("the request may outlast the office")
		}
		return nil
	}
	for until, want := range map[time.Duration]error{-time.Second: errNoOffice, time.Second: errNoOffice, 10 * time.Second: nil, time.Hour: nil} {
		w.fence.open(time.Now().Add(until))
		if err := w.fenced(t.Context(), write); !errors.Is(err, want) {
			t.Errorf("%v: %v", until, err)
		}
	}
	w.fence.close()
	if err := w.fenced(t.Context(), write); !errors.Is(err, errNoOffice) {
		t.Error(err)
	}
}

// What fails is tried again ever later; what succeeds is not tried at once again.
func TestDelays(t *testing.T) {
	now := time.Unix(1000, 0)
	var d delay
	for _, want := range []time.Duration{firstDelay, 2 * firstDelay, 4 * firstDelay} {
		d = d.after(errors.New("x"), now)
		if d.next.Sub(now) != want {
			t.Error(d.next.Sub(now), want)
		}
		now = d.next
	}
	for range 20 {
		d = d.after(nil, d.next)
	}
	if d.last != lastDelay || d.err != nil {
		t.Error(d)
	}
	if d = d.after(nil, d.next.Add(lastDelay+1)); d.last != firstDelay {
		t.Error("long ago is forgotten:", d.last)
	}
}
