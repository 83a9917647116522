package plan

import (
	"cmp"
	"maps"
	"slices"

	"github.com/vragent/vragent/controller/southbound"
)

// interfaces makes the VMI of each pod that is to have one: scheduled, with a
// network of its own, and not finished.
func (b *builder) interfaces() {
	b.pods = map[podKey]*Interface{}
	b.vmis = map[string]*Interface{}
	for i := range b.idx.pods {
		p := &b.idx.pods[i]
		if p.Node == "" || p.HostNetwork || p.Finished {
			continue
		}
		if b.idx.nodeOf[p.Node] == nil {
			b.problem("Pod "+p.Ref(), "is on node "+p.Node+", which is not a node of the cluster")
		}
		uuid := VMIUUID(p)
		v := &Interface{
			UUID:    uuid,
			Name:    p.Name + "__" + uuid,
			Pod:     p,
			Network: b.networkOf(p),
			desired: map[portMapKey]target{},
		}
		v.report(b.in.Reports[p.Node])
		b.pods[podKey{p.Namespace, p.Name}] = v
		b.vmis[uuid] = v
		b.model.Interfaces = append(b.model.Interfaces, v)
	}
}

// VMIUUID is the UUID of a pod's first interface.
func VMIUUID(p *Pod) string { return Derive("virtual-machine-interface", p.UID, "0") }

// report takes over what the agent of the pod's node says.
func (v *Interface) report(r *Report) {
	if r == nil {
		return
	}
	a, attached := r.VMIs[v.UUID]
	if !attached {
		return
	}
	if !validLabel(a.Label) {
		a.Label = 0
	}
	v.Attached, v.Stale, v.AttachedVMI = true, r.Stale, a
}

// interfaceResources makes the VMI resources, with the port maps that services
// want and those that must stay a little longer, and learns which port maps
// the agents have in their fast path.
func (b *builder) interfaceResources() {
	for _, v := range b.model.Interfaces {
		old := b.in.Memory.vmis[v.UUID]
		held := b.hold(v, old)
		full := maps.Clone(v.desired)
		for k, h := range held {
			full[k] = h.target
		}
		r := b.add(nodeSet(v.Pod.Node), southbound.Type_TYPE_VMI, v.UUID, &southbound.VMI{
			Uuid:           v.UUID,
			Name:           v.Name,
			VirtualNetwork: v.Network.Name,
			Namespace:      v.Pod.Namespace,
			Pod:            v.Pod.Name,
			PodUid:         v.Pod.UID,
			PortMaps:       wirePortMaps(full),
		})
		m := old.next(v, sentVersion{r.Wire.Version, full})
		m.held = held
		b.memory.vmis[v.UUID] = m
		v.acked = m.acked
		if v.Attached && len(full) > 0 && v.AckedVersion != r.Wire.Version {
			b.unacknowledged++
		}
	}
}

func wirePortMaps(full map[portMapKey]target) []*southbound.PortMap {
	keys := slices.SortedFunc(maps.Keys(full), func(a, b portMapKey) int {
		return cmp.Or(a.vip.Compare(b.vip), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.port, b.port))
	})
	out := make([]*southbound.PortMap, len(keys))
	for i, k := range keys {
		out[i] = &southbound.PortMap{
			Vip: k.vip.String(), Protocol: uint32(k.protocol), Port: uint32(k.port), Target: uint32(full[k].port),
		}
	}
	return out
}
