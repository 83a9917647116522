package verbs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/plugin/veth"
)

// check compares three accounts of the interface: the result ADD gave, the
// agent's (which asks the live fast path), and the kernel's.
func check(c *call) error {
	plan, err := c.planOf()
	if err != nil {
		return err
	}
	ends, err := veth.Open(c.args.Netns)
	if err != nil {
		return fmt.Errorf("check %s: %w", plan.Tap, err)
	}
	defer ends.Close()
	index, err := ends.Index(plan.Tap)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	reply, agentErr := c.agent.call(&rpc.Request{Check: &rpc.Check{Attachment: c.attachment(), Ifindex: index}}, answerTime)
	var wrong []string
	if agentErr == nil {
		wrong = c.compare(plan, reply.Interface)
	}
	differences, err := ends.Inspect(plan)
	if err != nil {
		return fmt.Errorf("check %s: %w", plan.Tap, err)
	}
	return verdict(append(wrong, differences...), agentErr)
}

// compare holds the result against the agent's record, and takes the MTU from
// it where the result has none.
func (c *call) compare(plan *veth.Plan, iface *rpc.Interface) []string {
	if iface == nil {
		return nil
	}
	var wrong []string
	if iface.Tap != plan.Tap {
		wrong = append(wrong, fmt.Sprintf("prevResult names tap %s, the agent %s", plan.Tap, iface.Tap))
	}
	if iface.MAC != plan.MAC {
		wrong = append(wrong, fmt.Sprintf("prevResult has MAC %v, the agent %v", plan.MAC, iface.MAC))
	}
	podIPs := iface.PodIPs
	if len(podIPs) == 0 {
		podIPs = iface.Addrs
	}
	if slices.Equal(plan.Addrs, podIPs) {
		plan.Addrs = iface.Addrs // what the interface itself has
	}
	for _, addr := range plan.Addrs {
		if !slices.Contains(iface.Addrs, addr) {
			wrong = append(wrong, fmt.Sprintf("prevResult has address %v, the agent %v", addr, podIPs))
		}
	}
	if plan.MTU == 0 {
		plan.MTU = iface.MTU
		if c.conf.MTU != 0 {
			plan.MTU = c.conf.MTU
		}
	}
	return wrong
}

// verdict puts everything found into one error. An agent that cannot be asked
// does not hide what the kernel showed.
func verdict(wrong []string, agentErr error) error {
	refusal, refused := errors.AsType[*rpc.Error](agentErr)
	if refused {
		wrong = append([]string{refusal.Error()}, wrong...)
	}
	switch {
	case refused && len(wrong) == 1, agentErr != nil && len(wrong) == 0:
		return fmt.Errorf("check: %w", agentErr)
	case len(wrong) > 0:
		return types.NewError(rpc.CodeChanged, "check: "+strings.Join(wrong, "; "), "delete the pod to have it attached anew")
	}
	return nil
}
