package plan

import (
	"slices"
	"strings"

	"github.com/vragent/vragent/controller/plan/portmaps"
	"github.com/vragent/vragent/controller/southbound"
)

// interfaces makes the VMI of each pod that is to have one: scheduled, with a
// network of its own, and not finished.
func (b *builder) interfaces() {
	b.pods = map[podKey]*Interface{}
	b.vmis = map[string]*Interface{}
	b.groups = map[string][]string{}
	for i := range b.idx.Pods {
		p := &b.idx.Pods[i]
		if p.Node == "" || p.HostNetwork || p.Finished {
			continue
		}
		if b.idx.NodeOf[p.Node] == nil {
			b.problem("Pod "+p.Ref(), "is on node "+p.Node+", which is not a node of the cluster")
		}
		uuid := VMIUUID(p)
		v := &Interface{
			UUID: uuid, Name: p.Name + "__" + uuid, Project: b.nets.Project(p.Namespace), Pod: p,
			desired: portmaps.Maps{},
		}
		v.report(b.in.Reports[p.Node])
		b.place(v)
	}
	b.fixedAddresses()
	b.model.Interfaces = slices.DeleteFunc(b.model.Interfaces, func(v *Interface) bool { return v.Refusal != "" })
	for _, v := range b.model.Interfaces {
		b.pods[podKey{Namespace: v.Pod.Namespace, Name: v.Pod.Name}] = v
		b.vmis[v.UUID] = v
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

// refuse notes why a pod gets no interface, once for all pods of a namespace
// whose reason is the namespace's.
func (b *builder) refuse(v *Interface, object, sentence string) {
	v.Refusal = sentence
	b.refused = append(b.refused, v)
	if of, own := strings.CutPrefix(sentence, object); own {
		sentence = strings.TrimLeft(of, ": ") // the problem names the object already
	}
	b.problem(object, sentence)
}

// reasonOf is the object whose annotations decide about a pod's network.
func reasonOf(p *Pod) string {
	if p.Network != nil || len(p.Faults) > 0 {
		return "Pod " + p.Ref()
	}
	return "Namespace " + p.Namespace
}

// interfaceResources makes the VMI resources, with the port maps that services
// want and those that must stay a little longer, and learns which port maps
// the agents have in their fast path.
func (b *builder) interfaceResources() {
	clock := portmaps.Clock{
		Now: b.in.Now, WakeAt: b.wakeAt,
		Settled: func(lb string) bool { return b.in.Settled[loadBalancerKey(lb)] },
	}
	for _, v := range b.model.Interfaces {
		a := portmaps.Attachment{Attached: v.Attached, PortMaps: v.PortMaps, Settled: b.in.Settled[Key{southbound.Type_TYPE_VMI, v.UUID}]}
		m, full := b.in.Memory.vmis[v.UUID].Next(a, v.desired, clock)
		wire := b.vmi(v)
		wire.VirtualNetwork = v.Network.Name
		wire.FixedAddresses = texts(v.Pod.Addresses)
		wire.PortMaps = wirePortMaps(full)
		b.add(nodeSet(v.Pod.Node), southbound.Type_TYPE_VMI, v.UUID, wire)
		b.memory.vmis[v.UUID], b.memory.places[v.UUID] = m, v.Network.Name
		v.maps = m
		if v.Attached && !m.Complete() {
			b.unacknowledged++
		}
	}
	for _, v := range b.refused {
		wire := b.vmi(v)
		wire.Refusal = v.Refusal
		b.add(nodeSet(v.Pod.Node), southbound.Type_TYPE_VMI, v.UUID, wire)
	}
}

func (b *builder) vmi(v *Interface) *southbound.VMI {
	return &southbound.VMI{
		Uuid:           v.UUID,
		Name:           v.Name,
		Namespace:      v.Pod.Namespace,
		Pod:            v.Pod.Name,
		PodUid:         v.Pod.UID,
		Io:             v.Pod.IO,
		SecurityGroups: b.securityGroups(v.Project),
	}
}

func (b *builder) securityGroups(p *Project) []string {
	if b.groups[p.Namespace] == nil {
		b.groups[p.Namespace] = []string{strings.Join(p.SecurityGroup.FQName(), ":")}
	}
	return b.groups[p.Namespace]
}

func wirePortMaps(full portmaps.Maps) []*southbound.PortMap {
	out := make([]*southbound.PortMap, 0, len(full))
	for _, k := range full.Sorted() {
		out = append(out, &southbound.PortMap{
			Vip: k.VIP.String(), Protocol: uint32(k.Protocol), Port: uint32(k.Port), Target: uint32(full[k].Port),
		})
	}
	return out
}
