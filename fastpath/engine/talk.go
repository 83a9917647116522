package engine

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/table"
)

// talk answers one connection's requests in order.
func (e *engine) talk(c *wire.Conn) {
	for {
		var q control.Request
		fds, err := c.Receive(&q)
		if err != nil {
			if !errors.Is(err, io.EOF) && e.ctx.Err() == nil {
				e.cfg.Log.Warn("control connection ended", "peer", c.Peer(), "error", err)
			}
			return
		}
		if q.Hello == nil {
			closeAll(fds)
		}
		if err := e.answer(c, &q, fds); err != nil {
			return
		}
	}
}

// answer is a flat switch over the requests.
func (e *engine) answer(c *wire.Conn, q *control.Request, fds []int) error {
	switch {
	case q.Hello != nil:
		return e.hello(c, q.Hello, fds)
	case q.Begin != nil:
		return c.Send(reply(e.change(c, func(p *plane) error { p.builder.Begin(q.Begin.Epoch); return nil })))
	case q.Delta != nil:
		return c.Send(reply(e.change(c, func(p *plane) error { return p.apply(q.Delta) })))
	case q.InSync != nil:
		return c.Send(reply(e.change(c, func(p *plane) error { return p.inSync(q.InSync.Epoch) })))
	case q.FlushVif != nil:
		return c.Send(reply(e.change(c, func(p *plane) error { p.shared.Sweep(); return nil })))
	case q.Flows != nil:
		return e.flows(c, q.Flows)
	default:
		return c.Send(e.read(q))
	}
}

func reply(err error) *control.Reply {
	if err != nil {
		return &control.Reply{Error: err.Error()}
	}
	return &control.Reply{}
}

var errNoAgent = errors.New("the fast path has not met its agent yet: it runs no workers")

// change runs a request of the agent that said Hello last; older agents are gone.
func (e *engine) change(c *wire.Conn, f func(p *plane) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.plane == nil:
		return errNoAgent
	case e.agent != c:
		return errors.New("another agent has taken over this fast path, or this connection did not say hello")
	}
	return f(e.plane)
}

// hello starts the data plane the first time; each time it makes c the agent's
// connection. Descriptors of flow memory go to the agent unless it sent its own.
func (e *engine) hello(c *wire.Conn, h *control.Hello, fds []int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h.Version != control.Version {
		closeAll(fds)
		return c.Send(reply(fmt.Errorf("the agent speaks version %d of the control protocol, this fast path %d: restart the older one", h.Version, control.Version)))
	}
	if e.plane == nil {
		p, err := newPlane(&e.cfg, h, fds)
		if err != nil {
			closeAll(fds)
			e.cfg.Log.Error("fast path cannot start", "error", err)
			return c.Send(reply(err))
		}
		e.plane = p
		p.Run(e.ctx, &e.cfg)
		e.cfg.Log.Info("fast path runs", "workers", len(p.workers), "adopted flows", p.adopted)
	} else {
		closeAll(fds)
		fds = nil
	}
	e.agent = c
	p := e.plane
	r := &control.HelloReply{Version: control.Version, PID: os.Getpid(), Workers: len(p.workers), Epoch: p.builder.Epoch(), AdoptedFlows: p.adopted}
	if len(fds) > 0 && p.memory[0] == fds[0] {
		return c.Send(&control.Reply{Hello: r})
	}
	closeAll(fds)
	r.FlowMemory = len(p.memory)
	return c.Send(&control.Reply{Hello: r}, p.memory...)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// apply changes the tables. A vif that leaves is detached before workers forget
// it; one that comes is in the tables before its first frame. Until the first
// replay is complete, workers see empty tables: half a network would refuse, and
// reset, what the other half serves.
func (p *plane) apply(d *table.Delta) error {
	if err := p.builder.Apply(d); err != nil {
		return err
	}
	for _, id := range d.Remove.Vifs {
		if err := p.steer.DetachVif(id); err != nil {
			return err
		}
	}
	if p.synced {
		p.publish(len(d.Remove.Vifs) > 0)
	}
	for i := range d.Upsert.Vifs {
		if err := p.steer.AttachVif(d.Upsert.Vifs[i]); err != nil {
			return fmt.Errorf("attach vif %d (%s): %w", d.Upsert.Vifs[i].ID, d.Upsert.Vifs[i].Name, err)
		}
	}
	return nil
}

func (p *plane) publish(sweep bool) {
	p.shared.Publish(p.builder.Tables())
	if sweep {
		p.shared.Sweep()
	}
}

// inSync ends a replay: what was not said again goes, pinned attachments included.
func (p *plane) inSync(epoch uint64) error {
	if err := p.builder.InSync(epoch); err != nil {
		return err
	}
	attached, err := p.steer.Vifs()
	if err != nil {
		return err
	}
	t := p.builder.Tables()
	for _, id := range attached {
		if t.Vif(id) == nil {
			if err := p.steer.DetachVif(id); err != nil {
				return err
			}
		}
	}
	p.synced = true
	p.publish(true)
	return nil
}
