package write

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// Leader is who writes, as this replica last saw it.
type Leader struct {
	Name  string    // empty: nobody, or not known yet
	Since time.Time // in office
	Self  bool      // this replica is it
	Asked time.Time // when the API server last answered; zero: never
	Error string    // of the last question; empty: it was answered
}

// Leader tells who writes, and whether the API server answers: every replica
// looks at the Lease every few seconds.
func (w *Writer) Leader() Leader { return *w.leader.Load() }

// Quiet silences the election's library, which logs every attempt in a form of
// its own; note logs transitions. It is for main, once: the library's log is one
// for the whole program.
func Quiet() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) }

// Run takes part in the election until the context ends, and writes whenever
// this replica is the leader. When it returns, nothing is being written. A
// leader that is stopped ends its work first and gives the office back then, so
// that another one need not wait.
func (w *Writer) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		lock := w.lock()
		terms := make(chan context.Context, 1)
		elector, err := w.elector(lock, terms)
		if err != nil {
			return fmt.Errorf("election: %w", err)
		}
		election, resign := context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan struct{})
		go func() { defer close(ended); elector.Run(election) }()
		select {
		case <-ctx.Done():
		case <-ended:
		case term := <-terms:
			w.serve(ctx, term)
		}
		resign()
		<-ended
		w.fence.close()
		if ctx.Err() != nil && elector.IsLeader() {
			lock.giveBack()
		}
	}
	return nil
}

// serve is a term of office.
func (w *Writer) serve(ctx, term context.Context) {
	term, end := context.WithCancel(term)
	defer end()
	defer context.AfterFunc(ctx, end)()
	w.config.Log.Info("this replica is the leader")
	w.office(term)
	w.config.Log.Info("this replica is the leader no more")
}

func (w *Writer) lock() *claim {
	return &claim{writer: w, LeaseLock: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: w.config.Namespace, Name: w.config.LeaseName},
		Client:     w.leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: w.config.Identity},
	}}
}

func (w *Writer) elector(lock *claim, terms chan<- context.Context) (*leaderelection.LeaderElector, error) {
	return leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: w.config.Times.Lease,
		RenewDeadline: w.config.Times.Renew,
		RetryPeriod:   w.config.Times.Retry,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(term context.Context) { terms <- term },
			OnStoppedLeading: func() {},
		},
	})
}

// claim is the Lease as the election uses it. It opens the fence with every
// renewal, and shows who is in office.
type claim struct {
	*resourcelock.LeaseLock
	writer *Writer
}

// Get reads the Lease.
func (c *claim) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := c.LeaseLock.Get(ctx)
	c.note(record, err)
	return record, raw, err
}

// Create makes the Lease: nobody was ever in office.
func (c *claim) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return c.write(ctx, record, c.LeaseLock.Create)
}

// Update takes the office, renews it, or gives it back.
func (c *claim) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return c.write(ctx, record, c.LeaseLock.Update)
}

func (c *claim) write(ctx context.Context, record resourcelock.LeaderElectionRecord, write func(context.Context, resourcelock.LeaderElectionRecord) error) error {
	sent := time.Now()
	err := write(ctx, record)
	if err == nil && record.HolderIdentity == c.Identity() {
		c.writer.fence.open(sent.Add(c.writer.config.Times.Lease))
	}
	c.note(&record, err)
	return err
}

// giveBack ends an office early; nobody needs to wait for its end.
func (c *claim) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), c.writer.config.Times.Renew)
	defer cancel()
	record, _, err := c.Get(ctx)
	if err != nil || record.HolderIdentity != c.Identity() {
		return // it ends by itself
	}
	record.HolderIdentity, record.LeaseDurationSeconds = "", 1
	_ = c.Update(ctx, *record) // the same
}

func (c *claim) note(record *resourcelock.LeaderElectionRecord, err error) {
	old := c.writer.Leader()
	now := old
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return // another one was first, or there is no Lease yet: the next look tells
	case err != nil:
		now.Error = err.Error()
	default:
		now = Leader{Name: shown(record.HolderIdentity), Since: record.AcquireTime.Time, Self: record.HolderIdentity == c.Identity(), Asked: time.Now()}
	}
	c.writer.leader.Store(&now)
	log := c.writer.config.Log
	switch {
	case old.Error == "" && now.Error != "":
		log.Warn("the Lease cannot be read or written", "error", err)
	case old.Error != "" && now.Error == "":
		log.Info("the Lease is seen again", "leader", now.Name)
	case old.Name != now.Name:
		log.Info("leader", "name", now.Name, "self", now.Self)
	default:
		return
	}
	signal(c.writer.changed)
}

// shown is the name that an identity begins with.
func shown(identity string) string {
	name, _, _ := strings.Cut(identity, "_")
	return name
}
