package verbs

import (
	"errors"
	"fmt"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/plugin/veth"
)

// add attaches a pod: the agent allocates, the kernel gets the pair, the agent
// binds it to the fast path, and only then does the pair go up. Repeating it is
// harmless; failing leaves nothing behind.
func add(c *call) error {
	if c.conf.PrevResult != nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "prevResult is given, but vrouter makes the interface itself", "put vrouter first in the list of plugins")
	}
	pod, err := parsePodArgs(c.args.Args)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("attach pod %s/%s", pod.K8S_POD_NAMESPACE, pod.K8S_POD_NAME)
	ends, err := veth.Open(c.args.Netns)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer ends.Close()
	iface, err := c.attach(pod)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	plan, pair, err := c.connect(ends, iface)
	if err == nil {
		err = types.PrintResult(c.result(plan, iface.PodIPs), c.conf.CNIVersion)
	}
	if err != nil {
		c.undo(ends, pair, iface.Tap)
		return fmt.Errorf("%s: %w", what, err)
	}
	c.log.Debug("attached", "pod", string(pod.K8S_POD_NAMESPACE)+"/"+string(pod.K8S_POD_NAME), "tap", plan.Tap, "addresses", plan.Addrs)
	return nil
}

// attach is step 1: the agent records the attachment and says what to build.
func (c *call) attach(pod *podArgs) (*rpc.Interface, error) {
	// A DEL of the same attachment that the agent has not heard of yet must not
	// undo this ADD later.
	if err := unspool(c.conf.RunDir, c.owner); err != nil {
		return nil, err
	}
	reply, err := c.awaitAttach(&rpc.Attach{
		Attachment: c.attachment(),
		Netns:      c.args.Netns,
		Namespace:  string(pod.K8S_POD_NAMESPACE),
		Pod:        string(pod.K8S_POD_NAME),
		PodUID:     string(pod.K8S_POD_UID),
	})
	if err != nil {
		return nil, err
	}
	if reply.Interface == nil {
		return nil, errors.New("the agent's answer has no interface")
	}
	return reply.Interface, nil
}

// askAgain spaces attempts to reach an agent that is being restarted.
const askAgain = 100 * time.Millisecond

// awaitAttach asks until the agent knows the pod, for waitSeconds in all: it may
// be starting, and then it waits for the controller itself. Asking twice does no
// harm.
func (c *call) awaitAttach(q *rpc.Attach) (*rpc.Reply, error) {
	whole := time.Duration(c.conf.WaitSeconds) * time.Second
	deadline := time.Now().Add(whole)
	for {
		q.Wait = max(time.Until(deadline), 0)
		reply, err := c.agent.call(&rpc.Request{Attach: q}, q.Wait+answerTime)
		_, away := errors.AsType[*unreachable](err)
		switch late := time.Now().Add(askAgain).After(deadline); {
		case away && !late:
			time.Sleep(askAgain)
		case err != nil && late && whole > 0:
			return nil, fmt.Errorf("waited %v: %w", whole, err)
		default:
			return reply, err
		}
	}
}

// connect is steps 2 and 3.
func (c *call) connect(ends *veth.Ends, iface *rpc.Interface) (*veth.Plan, veth.Pair, error) {
	plan, err := c.plan(iface)
	if err != nil {
		return nil, veth.Pair{}, err
	}
	pair, err := ends.Ensure(plan)
	if err != nil {
		return nil, pair, err
	}
	if err := c.bind(pair.Index); err != nil {
		return nil, pair, fmt.Errorf("bind %s to the fast path: %w", plan.Tap, err)
	}
	if err := ends.Up(plan); err != nil {
		return nil, pair, err
	}
	return plan, pair, nil
}

func (c *call) bind(ifindex int) error {
	_, err := c.agent.call(&rpc.Request{Bind: &rpc.Bind{Attachment: c.attachment(), Ifindex: ifindex}}, answerTime)
	// An agent that starts between our two steps finds a record without a tap
	// and drops it.
	if refusal, ok := errors.AsType[*rpc.Error](err); ok && refusal.Code == rpc.CodeUnknownPod {
		return &rpc.Error{Code: rpc.CodeTryAgain, Message: refusal.Message, Fix: "the agent was restarted meanwhile; try again"}
	}
	return err
}

// plan is the agent's interface with the configuration's MTU.
func (c *call) plan(iface *rpc.Interface) (*veth.Plan, error) {
	mtu := iface.MTU
	if c.conf.MTU > mtu {
		return nil, types.NewError(types.ErrInvalidNetworkConfig,
			fmt.Sprintf("mtu %d is more than the %d bytes the fabric carries", c.conf.MTU, mtu), "lower mtu, or remove it")
	}
	if c.conf.MTU != 0 {
		mtu = c.conf.MTU
	}
	return &veth.Plan{
		Owner:    c.owner,
		Tap:      iface.Tap,
		MAC:      iface.MAC,
		MTU:      mtu,
		Addrs:    iface.Addrs,
		Gateways: iface.Gateways,
		Routes:   iface.Routes,
		IO:       iface.IO,
	}, nil
}

// undo takes back what a failed ADD made. A pair that was there before, and
// may carry traffic, stays as it is: the runtime's DEL decides.
func (c *call) undo(ends *veth.Ends, pair veth.Pair, tap string) {
	if pair.Index != 0 && !pair.Created {
		return
	}
	if pair.Created {
		if _, err := ends.Remove(c.owner, tap); err != nil {
			c.log.Warn("undo: " + err.Error())
		}
	}
	if err := c.detach(); err != nil {
		c.log.Warn("undo: " + err.Error())
	}
}
