package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
)

// serve accepts connections until ctx is done, and waits for them to end.
func (e *engine) serve(ctx context.Context, l *wire.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var conns errgroup.Group
	defer func() { _ = conns.Wait() }()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			_ = l.Close()
			return fmt.Errorf("fast path: %w", err)
		}
		conns.Go(func() error { e.talk(ctx, c); return nil })
	}
}

// talk answers one client until it leaves or ctx is done.
func (e *engine) talk(ctx context.Context, c *wire.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer e.leave(c)
	for {
		var req control.Request
		err := c.Receive(&req)
		if err == nil {
			e.garbage.stir()
			err = e.answer(c, &req)
			e.garbage.stir()
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				e.log.Warn("control connection ends", "pid", c.Peer(), "error", err)
			}
			return
		}
	}
}

// leave forgets a client; workers go on without an agent.
func (e *engine) leave(c *wire.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.agent == c {
		e.agent = nil
		e.log.Warn("the agent is gone; forwarding goes on with the tables as they are")
	}
	_ = c.Close()
}

// answer replies to one request. The error is the connection's.
func (e *engine) answer(c *wire.Conn, req *control.Request) error {
	if req.Hello != nil {
		reply, err := e.hello(c, req.Hello)
		if err != nil {
			e.log.Error("hello refused", "pid", c.Peer(), "error", err)
			return c.Send(control.Reply{Error: err.Error()})
		}
		return c.Send(control.Reply{Hello: reply})
	}
	if req.Flows != nil {
		return e.flows(c, req.Flows)
	}
	reply, err := e.read(req)
	if reply == nil && err == nil {
		err = e.change(c, req)
		reply = &control.Reply{}
	}
	if err != nil {
		reply = &control.Reply{Error: err.Error()}
	}
	return c.Send(reply)
}

// read answers what everybody may ask; nil when req is none of that.
func (e *engine) read(req *control.Request) (*control.Reply, error) {
	switch {
	case req.Status != nil:
		return &control.Reply{Status: e.status()}, nil
	case req.Tables != nil:
		state := e.builder.State()
		return &control.Reply{Tables: &state}, nil
	case req.Vifs != nil:
		vifs, err := e.vifs()
		return &control.Reply{Vifs: vifs}, err
	case req.DropStats != nil:
		drops, err := e.dropStats()
		return &control.Reply{DropStats: drops}, err
	case req.Trace != nil:
		t, err := e.trace(req.Trace)
		return &control.Reply{Trace: t}, err
	}
	return nil, nil
}
