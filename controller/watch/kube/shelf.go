package kube

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/watch/convert"
)

// page is how many objects are held as the API server sends them, about 10 KB
// each, before they are reduced.
const page = 500

// errNoAnswer is a connection that ended before the API server spoke.
var errNoAnswer = errors.New("the connection ended without an answer")

// object is what all kinds of the API have.
type object interface {
	runtime.Object
	metav1.Object
}

type key struct{ namespace, name string }

func (k key) compare(o key) int {
	if c := strings.Compare(k.namespace, o.namespace); c != 0 {
		return c
	}
	return strings.Compare(k.name, o.name)
}

// kind is a shelf of any type.
type kind interface {
	follow(ctx context.Context)
	name() string
	read() bool // was it, once
	faults() []plan.Problem
}

// shelf keeps the objects of one kind as a plan sees them; the API's objects P
// are let go as soon as they are reduced. It is the store of a reflector.
type shelf[P object, T any] struct {
	// Set once by put
	client   rest.Interface
	resource string // as pods
	reduce   func(P) (T, error)
	link     *link
	touched  func()

	// Written by the reflector, read by anyone
	mu      sync.Mutex
	entries map[key]*entry[T] // nil: not read yet
	broken  int               // entries with a fault
	sorted  []T               // all values, immutable; nil: to be made again
}

// entry is one object. It is a runtime.Object, so that the reflector carries
// it from a page to its shelf.
type entry[T any] struct {
	key   key
	value T
	ours  bool
	fault string
}

func (e *entry[T]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }
func (e *entry[T]) DeepCopyObject() runtime.Object   { return e }

// put adds a shelf to a source.
func put[P object, T any](s *Source, client rest.Interface, resource string, reduce func(P) (T, error)) *shelf[P, T] {
	h := &shelf[P, T]{client: client, resource: resource, reduce: reduce, link: s.link, touched: s.touch}
	s.kinds = append(s.kinds, h)
	return h
}

// follow lists and watches until the context ends.
func (s *shelf[P, T]) follow(ctx context.Context) {
	var expected P
	r := cache.NewReflectorWithOptions(&cache.ListWatch{ListWithContextFunc: s.list, WatchFuncWithContext: s.watch},
		expected, s, cache.ReflectorOptions{Name: s.resource, TypeDescription: s.resource})
	r.WatchListPageSize = page
	r.RunWithContext(ctx)
}

// list reads one page. It is always the present state: what a lagging API
// server has cached may be older than what another has said already.
func (s *shelf[P, T]) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	o.ResourceVersion, o.ResourceVersionMatch = "", ""
	out := &metainternal.List{}
	err := s.link.insist(ctx, s.resource, func() error {
		got, err := s.ask(&o).Do(ctx).Get()
		if err != nil {
			return err
		}
		from, err := meta.ListAccessor(got)
		if err != nil {
			return err
		}
		out.ListMeta = metav1.ListMeta{ResourceVersion: from.GetResourceVersion(), Continue: from.GetContinue(), RemainingItemCount: from.GetRemainingItemCount()}
		out.Items = make([]runtime.Object, 0, meta.LenList(got))
		return meta.EachListItem(got, func(o runtime.Object) error {
			out.Items = append(out.Items, s.entry(o))
			return nil
		})
	})
	return out, err
}

func (s *shelf[P, T]) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	var w watch.Interface
	err := s.link.insist(ctx, s.resource, func() (err error) {
		w, err = s.ask(&o).Watch(ctx)
		if err == nil && reflect.TypeOf(w) == reflect.TypeOf(watch.NewEmptyWatch()) {
			err = errNoAnswer // the library's word for it
		}
		return err
	})
	return w, err
}

// ask is a request that is tried once: insist tries again, and says so.
func (s *shelf[P, T]) ask(o *metav1.ListOptions) *rest.Request {
	return s.client.Get().Resource(s.resource).VersionedParams(o, metav1.ParameterCodec).MaxRetries(0)
}

// entry reduces an object, unless a page did.
func (s *shelf[P, T]) entry(o any) *entry[T] {
	if e, done := o.(*entry[T]); done {
		return e
	}
	from := o.(P) // the reflector has checked it
	value, err := s.reduce(from)
	e := &entry[T]{key: key{from.GetNamespace(), from.GetName()}, value: value, ours: !errors.Is(err, convert.ErrNotOurs)}
	if err != nil && e.ours {
		e.fault = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return e
}

// Add is the same as Update: what is the same as before changes nothing.
func (s *shelf[P, T]) Add(o any) error { return s.Update(o) }

// Update takes one object.
func (s *shelf[P, T]) Update(o any) error {
	e := s.entry(o)
	if !e.ours {
		return s.drop(e.key)
	}
	s.mu.Lock()
	old := s.entries[e.key]
	same := old != nil && reflect.DeepEqual(old, e)
	if !same {
		s.count(old, -1)
		s.entries[e.key] = e
		s.count(e, +1)
		s.sorted = nil
	}
	s.mu.Unlock()
	if !same {
		s.touched()
	}
	return nil
}

// Delete forgets one object.
func (s *shelf[P, T]) Delete(o any) error {
	from := o.(P) // the reflector has checked it
	return s.drop(key{from.GetNamespace(), from.GetName()})
}

func (s *shelf[P, T]) drop(k key) error {
	s.mu.Lock()
	old := s.entries[k]
	if old != nil {
		s.count(old, -1)
		delete(s.entries, k)
		s.sorted = nil
	}
	s.mu.Unlock()
	if old != nil {
		s.touched()
	}
	return nil
}

// Replace takes a whole list.
func (s *shelf[P, T]) Replace(list []any, _ string) error {
	next := make(map[key]*entry[T], len(list))
	for _, o := range list {
		if e := s.entry(o); e.ours {
			next[e.key] = e
		}
	}
	s.mu.Lock()
	same := s.entries != nil && len(next) == len(s.entries)
	for k, e := range next {
		same = same && reflect.DeepEqual(s.entries[k], e)
	}
	if !same {
		s.entries, s.sorted, s.broken = next, nil, 0
		for _, e := range next {
			s.count(e, +1)
		}
	}
	s.mu.Unlock()
	if !same {
		s.touched()
	}
	return nil
}

// Resync has nothing to do: nobody has a copy.
func (s *shelf[P, T]) Resync() error { return nil }

func (s *shelf[P, T]) count(e *entry[T], by int) {
	if e != nil && e.fault != "" {
		s.broken += by
	}
}

func (s *shelf[P, T]) name() string { return s.resource }

func (s *shelf[P, T]) read() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries != nil
}

func (s *shelf[P, T]) get(k key) (value T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[k]; e != nil {
		return e.value, true
	}
	return value, false
}

// all are the values by namespace and name.
func (s *shelf[P, T]) all() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted == nil {
		entries := s.inOrder()
		s.sorted = make([]T, len(entries))
		for i, e := range entries {
			s.sorted[i] = e.value
		}
	}
	return s.sorted
}

// faults are what could not be read of the objects.
func (s *shelf[P, T]) faults() []plan.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == 0 {
		return nil
	}
	var out []plan.Problem
	for _, e := range s.inOrder() {
		if e.fault != "" {
			out = append(out, plan.Problem{Object: kindName[P]() + " " + plan.Meta{Namespace: e.key.namespace, Name: e.key.name}.Ref(), Sentence: e.fault})
		}
	}
	return out
}

func (s *shelf[P, T]) inOrder() []*entry[T] {
	entries := make([]*entry[T], 0, len(s.entries))
	for _, e := range s.entries {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b *entry[T]) int { return a.key.compare(b.key) })
	return entries
}

// kindName is the kind's name as users write it: the Go type's.
func kindName[P object]() string { return reflect.TypeFor[P]().Elem().Name() }
