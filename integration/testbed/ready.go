package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/table"
)

// readyLimit bounds how long a node may take from start to ready.
const readyLimit = 30 * time.Second

func (l *Lab) startController(ctx context.Context) (err error) {
	l.Controller, err = l.Launch("controller", l.Underlay, "vrcontroller", "run", "--config", l.controllerFile())
	return err
}

func (l *Lab) startAgents(ctx context.Context) error {
	for _, name := range l.Config.Nodes {
		n := l.Nodes[name]
		var err error
		if n.Agent, err = l.Launch("agent-"+name, n.Place, "vragent", "run", "--config", n.configFile()); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) waitReady(ctx context.Context) error {
	for _, name := range l.Config.Nodes {
		if err := l.WaitNode(ctx, l.Nodes[name]); err != nil {
			return err
		}
	}
	return nil
}

// WaitNode returns when the node's agent says that every condition is good.
func (l *Lab) WaitNode(ctx context.Context, n *Node) error {
	var ended error // no use to wait any longer
	err := Until(ctx, readyLimit, func() error {
		for _, d := range []*Daemon{l.Controller, n.Agent} {
			if ended = d.Running(); ended != nil {
				return nil
			}
		}
		return n.Ready()
	})
	if err == nil && ended == nil {
		return nil
	}
	return fmt.Errorf("%s is not ready: %w", n.Name, errors.Join(err, ended))
}

// Ready says what is missing on the node, or nil.
func (n *Node) Ready() error {
	reply, err := n.AskAgent(rpc.Request{Status: &rpc.Empty{}})
	if err != nil {
		return err
	}
	if reply.Status == nil {
		return errors.New("the agent's status is empty")
	}
	var missing []error
	// The agent may not have heard yet that the fast path is another process, which waits for it.
	if fast, err := n.FastPath(); err != nil || fast.State != control.StateRunning {
		missing = append(missing, fmt.Errorf("the fast path is not running: %w", cmp.Or(err, errors.New("it waits for the agent"))))
	}
	for _, c := range reply.Status.Conditions {
		if !c.OK {
			missing = append(missing, fmt.Errorf("%s: %s", c.Name, c.Message))
		}
	}
	return errors.Join(missing...)
}

// AskAgent makes one call at the node's agent.
func (n *Node) AskAgent(q rpc.Request) (*rpc.Reply, error) {
	var reply rpc.Reply
	if err := ask(filepath.Join(n.dir, rpc.SocketName), q, &reply); err != nil {
		return nil, err
	}
	if reply.Error != nil {
		return nil, reply.Error
	}
	return &reply, nil
}

// AskFastPath makes one call with one reply at the node's fast path.
func (n *Node) AskFastPath(q control.Request) (*control.Reply, error) {
	var reply control.Reply
	if err := ask(filepath.Join(n.dir, control.SocketName), q, &reply); err != nil {
		return nil, err
	}
	if reply.Error != "" {
		return nil, errors.New(reply.Error)
	}
	return &reply, nil
}

// FastPath is the health of the node's fast path.
func (n *Node) FastPath() (*control.Status, error) {
	reply, err := n.AskFastPath(control.Request{Status: &control.Empty{}})
	if err != nil {
		return nil, err
	}
	if reply.Status == nil {
		return nil, errors.New("the fast path's status is empty")
	}
	return reply.Status, nil
}

// Tables is what the node's fast path forwards by.
func (n *Node) Tables() (*table.State, error) {
	reply, err := n.AskFastPath(control.Request{Tables: &control.Empty{}})
	if err != nil {
		return nil, err
	}
	if reply.Tables == nil {
		return &table.State{}, nil
	}
	return reply.Tables, nil
}

// Flows lists the flow entries that match.
func (n *Node) Flows(q control.FlowQuery) ([]control.Flow, error) {
	conn, err := wire.Dial(filepath.Join(n.dir, control.SocketName))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := conn.Send(control.Request{Flows: &q}); err != nil {
		return nil, err
	}
	var flows []control.Flow
	for {
		var reply control.Reply
		if err := conn.Receive(&reply); err != nil {
			return nil, err
		}
		if reply.Error != "" {
			return nil, errors.New(reply.Error)
		}
		flows = append(flows, reply.Flows...)
		if reply.Done {
			return flows, nil
		}
	}
}

// Drops counts the packets dropped so far, by reason; reasons at zero are left out.
func (n *Node) Drops() (map[string]uint64, error) {
	reply, err := n.AskFastPath(control.Request{DropStats: &control.Empty{}})
	if err != nil {
		return nil, err
	}
	drops := map[string]uint64{}
	for _, d := range reply.DropStats {
		if d.Count > 0 {
			drops[d.Name] = d.Count
		}
	}
	return drops, nil
}

func ask(socket string, question, answer any) error {
	conn, err := wire.Dial(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := conn.Send(question); err != nil {
		return err
	}
	err = conn.Receive(answer)
	return err
}
