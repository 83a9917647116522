package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Links tells which interfaces are deleted.
type Links struct {
	log *slog.Logger
}

// NewLinks prepares a watch.
func NewLinks(log *slog.Logger) *Links { return &Links{log} }

// linkBuffer is the socket's, in bytes: a node full of pods makes bursts.
const linkBuffer = 4 << 20

// Run calls gone for every interface that is deleted, until ctx is done, and lost
// whenever some may have been missed.
func (l *Links) Run(ctx context.Context, gone func(ifindex int), lost func()) error {
	for ctx.Err() == nil {
		err := l.watch(ctx, gone, lost)
		if ctx.Err() != nil {
			return nil
		}
		l.log.Warn("interface events were lost; looking at all of them", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

func (l *Links) watch(ctx context.Context, gone func(ifindex int), lost func()) error {
	done := make(chan struct{})
	defer close(done)
	updates := make(chan netlink.LinkUpdate, 1024)
	failed := make(chan error, 1)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ReceiveBufferSize: linkBuffer,
		ErrorCallback: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	lost() // what went before we watched
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case u, ok := <-updates:
			if !ok {
				return errors.New("the kernel closed the interface events")
			}
			if u.Header.Type == unix.RTM_DELLINK {
				gone(int(u.Index))
			}
		}
	}
}
