package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/vragent/vragent/controller/plan"
)

// Pauses between attempts. The longest is how late news may be after an outage.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 2 * time.Second
	jitter     = 0.5 // of a pause, at most, on top
)

// Status is how fresh a source is.
type Status struct {
	Connected bool      // every kind was read, and is followed now
	Since     time.Time // of the connection, or of its loss
	Error     string    // the last one, while not connected
	Waiting   []string  // kinds that were never read
}

// link knows which kinds the API server does not serve us at the moment.
type link struct {
	// Set once by newLink
	log    *slog.Logger
	signal func()

	// Written by the shelves' reflectors, read by anyone
	mu      sync.Mutex
	failing map[string]string // resource → cause
	last    string            // cause
	since   time.Time         // all are served, or one is not
}

func newLink(log *slog.Logger, signal func()) *link {
	return &link{log: log, signal: signal, failing: map[string]string{}, since: time.Now()}
}

// insist asks until the API server answers, or says that the question is out
// of date. The reflector's own pauses would grow to a minute.
func (l *link) insist(ctx context.Context, resource string, ask func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := ask()
		switch {
		case err == nil:
			l.good(resource)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case outOfDate(err):
			return err
		}
		l.bad(resource, err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait.Jitter(pause, jitter)):
		}
	}
}

// outOfDate errors concern the resource version; the reflector lists again.
func outOfDate(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

func (l *link) good(resource string) {
	l.mu.Lock()
	_, failed := l.failing[resource]
	delete(l.failing, resource)
	back := failed && len(l.failing) == 0
	if back {
		l.log.Info("Kubernetes API is read again", "away", time.Since(l.since).Round(time.Millisecond))
		l.since, l.last = time.Now(), ""
	}
	l.mu.Unlock()
	if failed {
		l.signal()
	}
}

func (l *link) bad(resource string, err error) {
	why := cause(err)
	l.mu.Lock()
	news := l.failing[resource] != why
	if news {
		if !slices.Contains(slices.Collect(maps.Values(l.failing)), why) { // one line per cause, not per kind
			l.log.Warn("Kubernetes API cannot be read", "kind", resource, "error", why)
		}
		if len(l.failing) == 0 {
			l.since = time.Now()
		}
		l.failing[resource], l.last = why, why
	}
	l.mu.Unlock()
	if news {
		l.signal()
	}
}

func (l *link) status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{Connected: len(l.failing) == 0, Since: l.since, Error: l.last}
}

// problems has one sentence per cause.
func (l *link) problems(whole bool) []plan.Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	kinds := map[string][]string{}
	for resource, why := range l.failing {
		kinds[why] = append(kinds[why], resource)
	}
	rest := "what was read last stays in force"
	if !whole {
		rest = "nothing is decided before everything was read"
	}
	var out []plan.Problem
	for why, of := range kinds {
		slices.Sort(of)
		out = append(out, plan.Problem{Object: "Kubernetes API", Sentence: fmt.Sprintf("cannot read %s: %s; %s", strings.Join(of, ", "), why, rest)})
	}
	return out
}

// cause is an error without what differs from one attempt to the next, as a
// local port, and with what helps.
func cause(err error) string {
	var (
		at *url.Error
		op *net.OpError
	)
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return "not allowed; the service account needs the ClusterRole of packaging (get, list, watch)"
	case apierrors.IsNotFound(err):
		return "no such kind; apply packaging/helm/vragent/crds"
	case errors.As(err, &op) && op.Addr != nil:
		return fmt.Sprintf("%s %s: %v", op.Op, op.Addr, op.Err)
	case errors.As(err, &at):
		return at.Err.Error()
	}
	return err.Error()
}
