package verbs

import (
	"errors"
	"fmt"
	"slices"

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
	known, err := c.agent.call(&rpc.Request{VMIs: &rpc.Empty{}}, answerTime)
	if err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	return c.removeStrays(ends, taps, func(tap veth.Tap) bool {
		return keep[tap.Owner] || slices.ContainsFunc(known.VMIs, func(v rpc.VMI) bool { return v.Tap == tap.Name })
	})
}

func (c *call) removeStrays(ends *veth.Ends, taps []veth.Tap, owned func(veth.Tap) bool) error {
	var failed []error
	for _, tap := range taps {
		if owned(tap) {
			continue
		}
		if _, err := ends.Remove(tap.Owner, tap.Name); err != nil {
			failed = append(failed, fmt.Errorf("gc: %w", err))
			continue
		}
		c.log.Info("removed", "tap", tap.Name, "owner", tap.Owner)
	}
	return errors.Join(failed...)
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
