package plan

import (
	"github.com/vragent/vragent/controller/plan/blocks"
	"github.com/vragent/vragent/controller/plan/floating"
	"github.com/vragent/vragent/controller/plan/portmaps"
	"github.com/vragent/vragent/controller/southbound"
)

// HoldTime bounds how long the port map of a removed member stays.
const HoldTime = portmaps.HoldTime

type (
	portMapKey = portmaps.Key
	target     = portmaps.Target
)

// Memory is what one Build must tell the next. It is immutable.
type Memory struct {
	vmis     map[string]*portmaps.VMI
	places   map[string]string // by VMI: the network it was last planned in
	resting  map[Lease]blocks.Rest
	opened   map[string]ways // by load balancer
	floating *floating.Memory
	outside  map[string]bool // networks of VirtualNetworks: their pods reach what is outside
}

func (m *Memory) next() *Memory {
	return &Memory{vmis: map[string]*portmaps.VMI{}, places: map[string]string{}, opened: map[string]ways{}}
}

// Awaited are the load balancers whose acknowledgement a port map waits for, the
// VMIs of which one is in doubt, and the blocks that nodes are to let go of.
func (m *Memory) Awaited() map[Key]bool {
	out := map[Key]bool{}
	if m == nil {
		return out
	}
	for l, r := range m.resting {
		if r.Awaited {
			out[blockKey(l)] = true
		}
	}
	for uuid, v := range m.vmis {
		if v.Doubted() {
			out[Key{southbound.Type_TYPE_VMI, uuid}] = true
		}
		for lb := range v.Awaited() {
			out[loadBalancerKey(lb)] = true
		}
	}
	return out
}

func loadBalancerKey(uuid string) Key { return Key{southbound.Type_TYPE_LOAD_BALANCER, uuid} }
