package engine

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/link/tap"
	"github.com/vragent/vragent/fastpath/table"
)

// hello makes c the agent's connection and, the first time, opens the data plane.
func (e *engine) hello(c *wire.Conn, h *control.Hello) (*control.HelloReply, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h.Version != control.Version {
		return nil, fmt.Errorf("agent speaks version %d of the control protocol, this fast path %d: restart the older of the two", h.Version, control.Version)
	}
	p := e.plane.Load()
	if p == nil {
		var err error
		if p, err = openPlane(&e.cfg, h); err != nil {
			return nil, fmt.Errorf("open the data plane: %w", err)
		}
		e.plane.Store(p)
	}
	e.agent = c
	e.log.Info("agent says hello", "pid", c.Peer(), "node", h.Node, "flows", p.memory.adopted)
	return &control.HelloReply{
		Version: control.Version, PID: os.Getpid(), Workers: e.cfg.Workers,
		Epoch: e.builder.Epoch(), AdoptedFlows: p.memory.adopted,
	}, nil
}

// change does what only the agent may ask for.
func (e *engine) change(c *wire.Conn, req *control.Request) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.plane.Load()
	if p == nil || e.agent != c {
		return errors.New("only the agent changes the fast path: say hello first, and again when another agent has said it since")
	}
	switch {
	case req.Begin != nil:
		e.builder.Begin(req.Begin.Epoch)
		e.replaying = true
		return nil
	case req.Delta != nil:
		return e.apply(p, req.Delta)
	case req.InSync != nil:
		return e.inSync(p, req.InSync.Epoch)
	}
	return errors.New("empty request: exactly one field is set")
}

// apply makes a change real in the order in which nothing can go wrong between:
// tables know a vif before its first frame comes, and its last frame has come
// before tables forget it. A refused delta changes nothing. A vif whose device
// cannot be attached is an error after everything else has been done.
func (e *engine) apply(p *plane, d *table.Delta) error {
	if err := e.builder.Apply(d); err != nil {
		return err
	}
	t := e.builder.Tables()
	var errs []error
	for _, id := range d.Remove.Vifs {
		if t.Vif(id) == nil {
			errs = append(errs, p.detach(id))
		}
	}
	p.kernel.sync(t)
	p.shared.Publish(t)
	for _, v := range d.Upsert.Vifs {
		if entry := t.Vif(v.ID); entry != nil {
			errs = append(errs, e.attach(p, entry.Vif))
		}
	}
	if len(d.Remove.Vifs) > 0 || len(d.Remove.NextHops) > 0 {
		p.shared.Sweep()
	}
	return errors.Join(errs...)
}

// attach attaches a vif. In a replay a pod whose device is gone meanwhile must
// not keep the others waiting: status shows it as not attached, and its DEL will
// come.
func (e *engine) attach(p *plane, v table.Vif) error {
	err := p.attach(v)
	if err == nil && v.Kind == table.VifFabric {
		err = p.attachFabric(v, e.log)
	}
	if err == nil || !e.replaying {
		return err
	}
	if _, gone := net.InterfaceByIndex(v.Ifindex); gone == nil && !errors.Is(err, tap.ErrGone) {
		return err
	}
	e.log.Warn("vif is not attached: its device is gone", "vif", v.ID, "device", v.Name, "owner", v.Owner)
	return nil
}

// inSync ends a replay: what was not replayed goes, from the kernel too. The
// first one lets frames in.
func (e *engine) inSync(p *plane, epoch uint64) error {
	if err := e.builder.InSync(epoch); err != nil {
		return err
	}
	t := e.builder.Tables()
	if err := e.detachUnknown(p, t); err != nil {
		return err
	}
	p.kernel.sync(t)
	p.shared.Publish(t)
	p.shared.Sweep()
	if !p.running.Load() {
		if err := p.begin(); err != nil {
			return err
		}
		p.kernel.begin(t)
		e.start <- p
	}
	e.replaying = false
	e.log.Info("tables are complete", "epoch", epoch)
	return nil
}

// detachUnknown detaches what steering still has from a predecessor, or from
// before the replay.
func (e *engine) detachUnknown(p *plane, t *table.Tables) error {
	held, err := p.held(func(opened) bool { return true })
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range held {
		if t.Vif(id) == nil {
			errs = append(errs, p.detach(id))
		}
	}
	return errors.Join(errs...)
}
