// Package write changes the cluster: block leases, the status of services, the
// certificate authority of the agents. A Writer's Run owns what it knows of the
// API server's objects; it writes only while its replica holds the Lease. It
// does not decide what is to be written (controller/plan).
package write

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"

	"github.com/vragent/vragent/conf/v1alpha1"
	"github.com/vragent/vragent/controller/plan"
)

// requestTimeout bounds one request.
const requestTimeout = 10 * time.Second

// Config is what a Writer is made of.
type Config struct {
	REST      *rest.Config
	Namespace string // of the Lease, and of what agents find
	LeaseName string
	Identity  string // of this replica: unique among all that ever ran
	Account   string // the agents' service account, in Namespace
	Pod       func(namespace, name string) (plan.Pod, bool)
	Times     Times
	Log       *slog.Logger
}

// Times are those of the election.
type Times struct {
	Lease time.Duration // others wait that long for a leader that is silent; 0: 15 s
	Renew time.Duration // a leader that cannot renew for that long gives up; 0: 10 s
	Retry time.Duration // between attempts; 0: 2 s
}

// wishes is what the API server is to hold, as the last plan has it.
type wishes struct {
	leases   plan.Leases
	statuses []plan.Status
}

// Writer is one replica's access to the API server.
type Writer struct {
	// Set once by New
	clients
	config  Config
	fence   *fence
	wished  chan struct{} // has a value when there are new wishes
	changed chan struct{}

	// Owned by the term of office
	ledger *ledger

	// Guarded by mu
	mu       sync.Mutex
	wishes   wishes
	problems []plan.Problem

	// Written by the election, read by anyone
	leader atomic.Pointer[Leader]
}

// clients are one per API group; the typed clientset would serve every group
// there is.
type clients struct {
	core, tokens, blocks rest.Interface
	leases               coordination.LeasesGetter
}

// New makes a Writer. It talks to nobody yet.
func New(c Config) (*Writer, error) {
	c.Times.Lease = cmp.Or(c.Times.Lease, 15*time.Second)
	c.Times.Renew = cmp.Or(c.Times.Renew, 10*time.Second)
	c.Times.Retry = cmp.Or(c.Times.Retry, 2*time.Second)
	w := &Writer{config: c, fence: &fence{}, wished: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	w.leader.Store(&Leader{})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, authenticationv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	var err error
	for _, x := range []struct {
		to    *rest.Interface
		path  string
		group schema.GroupVersion
	}{
		{&w.core, "/api", corev1.SchemeGroupVersion},
		{&w.tokens, "/apis", authenticationv1.SchemeGroupVersion},
		{&w.blocks, "/apis", v1alpha1.GroupVersion},
	} {
		if *x.to, err = clientFor(c.REST, scheme, x.path, x.group); err != nil {
			return nil, fmt.Errorf("API server %s: %w", c.REST.Host, err)
		}
	}
	election := rest.CopyConfig(c.REST)
	election.Timeout = c.Times.Renew / 2 // one attempt that hangs does not cost the office
	if w.leases, err = coordination.NewForConfig(election); err != nil {
		return nil, fmt.Errorf("API server %s: %w", c.REST.Host, err)
	}
	return w, nil
}

func clientFor(c *rest.Config, scheme *runtime.Scheme, path string, group schema.GroupVersion) (rest.Interface, error) {
	c = rest.CopyConfig(c)
	c.APIPath, c.GroupVersion = path, &group
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	c.QPS = -1 // the API server's fairness decides
	c.Timeout = requestTimeout
	metav1.AddToGroupVersion(scheme, group)
	return rest.RESTClientFor(c)
}

// Keep replaces what is to be written. It returns at once: what was written
// comes back with the source.
func (w *Writer) Keep(out *plan.Output) error {
	w.mu.Lock()
	w.wishes = wishes{out.Leases, out.Statuses}
	w.mu.Unlock()
	signal(w.wished)
	return nil
}

func (w *Writer) wish() wishes {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wishes
}

// Changes has a value when Problems or Leader may say something new.
func (w *Writer) Changes() <-chan struct{} { return w.changed }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is already waiting: it covers this one too
	}
}

// Problems are the writes that do not succeed.
func (w *Writer) Problems() []plan.Problem {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.problems)
}

func (w *Writer) report(problems []plan.Problem) {
	slices.SortFunc(problems, func(a, b plan.Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Sentence, b.Sentence))
	})
	w.mu.Lock()
	same := slices.Equal(w.problems, problems)
	w.problems = problems
	w.mu.Unlock()
	if !same {
		signal(w.changed)
	}
}

// office is the work of a leader, until it is one no more: it learns what there
// is, and then makes it what is wished for.
func (w *Writer) office(ctx context.Context) {
	defer w.report(nil)
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		var err error
		if w.ledger, err = w.learn(ctx); err == nil {
			break
		}
		w.report([]plan.Problem{{Object: "API server", Sentence: "what is there cannot be read, so that nothing is written: " + err.Error()}})
		if !pause(ctx, wait) {
			return
		}
	}
	for {
		var soon <-chan time.Time
		if again := w.apply(ctx); !again.IsZero() {
			soon = time.After(time.Until(again))
		}
		select {
		case <-ctx.Done():
			return
		case <-w.wished:
		case <-soon:
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// apply writes what differs; it returns when to try again what failed.
func (w *Writer) apply(ctx context.Context) time.Time {
	wanted := w.wish()
	b := &batch{writer: w, now: time.Now(), wanted: map[string]bool{}}
	for _, l := range wanted.leases.Delete {
		b.add("IPBlock "+blockName(l), func(ctx context.Context) error { return w.release(ctx, l) })
	}
	for _, l := range wanted.leases.Create {
		b.add("IPBlock "+blockName(l), func(ctx context.Context) error { return w.claim(ctx, l) })
	}
	for _, s := range wanted.statuses {
		b.add("Service "+s.Namespace+"/"+s.Name, func(ctx context.Context) error { return w.status(ctx, s) })
	}
	return b.run(ctx)
}
