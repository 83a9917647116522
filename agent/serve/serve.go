// Package serve answers the CNI plugin and the CLI on the agent's Unix socket,
// and picks up the notes the plugin leaves while the agent is away. Run owns the
// connections; what is answered is decided by the Answerer. It changes nothing
// by itself.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control/wire"
)

// Answerer answers one request; several may be under way at once.
type Answerer interface {
	Answer(ctx context.Context, q *rpc.Request) *rpc.Reply
}

// Server is the agent's socket.
type Server struct {
	// Set once by Listen.
	listener *wire.Listener
	log      *slog.Logger
}

// Listen makes the socket in the run directory, for root only.
func Listen(runDir string, log *slog.Logger) (*Server, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	l, err := wire.Listen(filepath.Join(runDir, rpc.SocketName), 0o600)
	if err != nil {
		return nil, err
	}
	return &Server{l, log}, nil
}

// Run serves until ctx is done and waits for what is under way.
func (s *Server) Run(ctx context.Context, node Answerer) error {
	defer context.AfterFunc(ctx, func() { _ = s.listener.Close() })()
	var clients errgroup.Group
	for {
		c, err := s.listener.Accept()
		if err != nil {
			_ = s.listener.Close()
			_ = clients.Wait()
			if errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("serve: %w", err)
		}
		clients.Go(func() error { s.client(ctx, c, node); return nil })
	}
}

// Close gives the socket up before Run was called.
func (s *Server) Close() error { return s.listener.Close() }

// client answers one connection until either side leaves.
func (s *Server) client(ctx context.Context, c *wire.Conn, node Answerer) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	for {
		var q rpc.Request
		err := c.Receive(&q)
		if err == nil {
			err = c.Send(node.Answer(ctx, &q))
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.log.Warn("client dropped", "pid", c.Peer(), "error", err)
			}
			return
		}
	}
}
