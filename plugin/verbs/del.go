package verbs

import (
	"errors"
	"fmt"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/plugin/veth"
)

// del removes the interface and tells the agent. It succeeds however much is
// gone already: the namespace, the interface, the attachment, the agent.
func del(c *call) error {
	ends, err := veth.Open(c.args.Netns)
	if errors.Is(err, veth.ErrNetns) {
		ends, err = veth.Open("")
	}
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	defer ends.Close()
	tap := ""
	if plan, err := c.planOf(); err == nil {
		tap = plan.Tap
	}
	removed, err := ends.Remove(c.owner, tap)
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	c.log.Debug("removed", "tap", removed)
	return c.detach()
}

// detach tells the agent. One that is away finds a note in the run directory.
func (c *call) detach() error {
	d := &rpc.Detach{Attachment: c.attachment(), Netns: c.args.Netns}
	_, err := c.agent.call(&rpc.Request{Detach: d}, answerTime)
	if refusal, ok := errors.AsType[*rpc.Error](err); ok && refusal.Code == rpc.CodeUnknownPod {
		return nil
	}
	if _, ok := errors.AsType[*unreachable](err); !ok {
		return err
	}
	c.log.Warn("left a note for the agent", "cause", err)
	if err := spool(c.conf.RunDir, d); err != nil {
		// The agent itself notices at its start that the interface is gone.
		c.log.Warn(err.Error())
		warn(err)
	}
	return nil
}
