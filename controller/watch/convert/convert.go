// Package convert reduces Kubernetes objects to what a plan depends on. It is
// pure and keeps nothing; manifests and the API server's objects go through the
// same functions. It does not judge what objects mean together
// (controller/plan), nor complete what a manifest leaves out (controller/watch).
//
// Each function returns what it could read and, as one error, what it could
// not. A broken annotation is no error, since nobody else checks them: it is a
// fault of the object that carries it (plan.Meta.Faults).
package convert

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vragent/vragent/controller/plan"
)

// ErrNotOurs says that an object is sound and somebody else's.
var ErrNotOurs = errors.New("is not ours")

// faults are what could not be read, one error each.
type faults []error

// add notes an error of a field, given as its path; nil is none.
func (f *faults) add(err error, field string, index ...any) {
	if err != nil {
		*f = append(*f, fmt.Errorf("field %s: %w", fmt.Sprintf(field, index...), err))
	}
}

func (f faults) err() error { return errors.Join(f...) }

func meta(o *metav1.ObjectMeta) plan.Meta {
	return plan.Meta{Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), Created: o.CreationTimestamp.UTC()}
}

// Namespace reads its annotations.
func Namespace(o *corev1.Namespace) (plan.Namespace, error) {
	n := plan.Namespace{Meta: meta(&o.ObjectMeta)}
	a := annotations{of: o.Annotations, faults: &n.Faults}
	n.Isolated = a.flag(isolation, false)
	n.OpenServices = !a.flag(serviceIsolation, true)
	n.Network = a.network()
	n.Pool = a.pool()
	return n, nil
}

// Node reads its addresses and its zone. Tunnels end at its first internal IPv4
// address.
func Node(o *corev1.Node) (plan.Node, error) {
	n := plan.Node{Meta: meta(&o.ObjectMeta), Zone: o.Labels[corev1.LabelTopologyZone]}
	var f faults
	for i, a := range o.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		ip, err := address(a.Address)
		f.add(err, "status.addresses[%d].address", i)
		switch {
		case !ip.IsValid():
		case a.Type == corev1.NodeInternalIP && ip.Is4() && !n.Address.IsValid():
			n.Address = ip
		default:
			n.Others = append(n.Others, ip)
		}
	}
	return n, f.err()
}

// Pod reads where a pod is and what network and addresses it asks for. A pod
// on its node's own network has neither.
func Pod(o *corev1.Pod) (plan.Pod, error) {
	p := plan.Pod{
		Meta:        meta(&o.ObjectMeta),
		Node:        o.Spec.NodeName,
		HostNetwork: o.Spec.HostNetwork,
		Finished:    o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed,
	}
	if p.HostNetwork {
		return p, nil
	}
	a := annotations{of: o.Annotations, faults: &p.Faults}
	p.Network = a.network()
	p.Addresses = a.addresses()
	p.IO = a.io()
	var f faults
	for i, ip := range o.Status.PodIPs {
		at, err := address(ip.IP)
		f.add(err, "status.podIPs[%d].ip", i)
		if err == nil {
			p.IPs = append(p.IPs, at)
		}
	}
	return p, f.err()
}

// NetworkPolicy notes that there is one.
func NetworkPolicy(o *networkingv1.NetworkPolicy) (plan.Unserved, error) {
	return plan.Unserved{Meta: meta(&o.ObjectMeta), Kind: "NetworkPolicy"}, nil
}

// Ingress notes that there is one that names no class, or Contrail's.
func Ingress(o *networkingv1.Ingress) (plan.Unserved, error) {
	class := o.Annotations[ingressClass]
	if o.Spec.IngressClassName != nil {
		class = *o.Spec.IngressClassName
	}
	if class != "" && class != "opencontrail" {
		return plan.Unserved{}, ErrNotOurs
	}
	return plan.Unserved{Meta: meta(&o.ObjectMeta), Kind: "Ingress"}, nil
}

func address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%q is no address", s)
	}
	if !a.IsGlobalUnicast() {
		return netip.Addr{}, fmt.Errorf("%v is no address that can be reached (unspecified, loopback, link-local or multicast)", a)
	}
	return a, nil
}

func protocol(p corev1.Protocol) (uint8, error) {
	switch p {
	case "", corev1.ProtocolTCP:
		return plan.TCP, nil
	case corev1.ProtocolUDP:
		return plan.UDP, nil
	case corev1.ProtocolSCTP:
		return plan.SCTP, nil
	}
	return 0, fmt.Errorf("%q is neither TCP, UDP nor SCTP", p)
}

// port reads a port that must be there.
func port(p int32) (uint16, error) {
	if p < 1 || p > 65535 {
		return 0, fmt.Errorf("%d is no port", p)
	}
	return uint16(p), nil
}

// portOrNone reads a port that may be left out.
func portOrNone(p int32) (uint16, error) {
	if p == 0 {
		return 0, nil
	}
	return port(p)
}
