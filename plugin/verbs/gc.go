package verbs

import (
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/plugin/veth"
)

// gc removes what no container of this network owns any more: attachments in
// the agent, with their addresses and flows, then host ends without an owner.
func gc(c *call) error {
	valid, given, err := c.conf.Valid(c.args.StdinData)
	if err != nil {
		return err
	}
	if !given { // cnitool asks so; to take it for "none is valid" would cut off every pod
		c.log.Warn("GC without cni.dev/valid-attachments: nothing removed")
		return nil
	}
	ends, err := veth.Open("")
	if err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	defer ends.Close()
	// Listed first: every tap in this list was recorded by the agent before it
	// was made, so one the agent does not know afterwards is nobody's.
	taps, err := ends.Taps()
	if err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	request := &rpc.GC{Network: c.conf.Name, Valid: []rpc.Attachment{}}
	keep := map[veth.Owner]bool{}
	for _, a := range valid {
		request.Valid = append(request.Valid, rpc.Attachment{ContainerID: a.ContainerID, Ifname: a.IfName, Network: c.conf.Name})
		keep[veth.Owner{ContainerID: a.ContainerID, Ifname: a.IfName}] = true
	}
	reply, err := c.agent.call(&rpc.Request{GC: request}, answerTime)
	if err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	if len(reply.Removed) > 0 {
		c.log.Info("agent removed", "what", reply.Removed)
	}
	var failed []error
	for _, tap := range taps {
		if !keep[tap.Owner] {
			failed = append(failed, c.removeStray(ends, tap))
		}
	}
	return errors.Join(failed...)
}

// removeStray removes a tap unless the agent knows its owner: it may belong to
// another network.
func (c *call) removeStray(ends *veth.Ends, tap veth.Tap) error {
	owner := rpc.Attachment{ContainerID: tap.Owner.ContainerID, Ifname: tap.Owner.Ifname}
	_, err := c.agent.call(&rpc.Request{Check: &rpc.Check{Attachment: owner, Ifindex: tap.Index}}, answerTime)
	if _, away := errors.AsType[*unreachable](err); away {
		return fmt.Errorf("gc: %w", err)
	}
	if refusal, ok := errors.AsType[*rpc.Error](err); !ok || refusal.Code != rpc.CodeUnknownPod {
		return nil
	}
	if _, err := ends.Remove(tap.Owner, tap.Name); err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	c.log.Info("removed", "tap", tap.Name, "owner", tap.Owner)
	return nil
}

// status says whether ADD can work now: 50 when not, 51 when pods may have
// less than they should.
func status(c *call) error {
	_, err := c.agent.call(&rpc.Request{Ready: &rpc.Empty{}}, answerTime)
	if away, ok := errors.AsType[*unreachable](err); ok {
		return types.NewError(rpc.CodeNotAvailable, away.Error(), startAgent)
	}
	return err
}
