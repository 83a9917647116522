package convert

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/vragent/vragent/controller/plan"
)

const (
	// labelProxyName says that another proxy serves the Service (Kubernetes has no constant for it in its API).
	labelProxyName = "service.kubernetes.io/service-proxy-name"
	// LoadBalancerClass is ours; services of type LoadBalancer without a class are too.
	LoadBalancerClass = "vragent.io/native"

	defaultAffinity = 10800 // seconds; both as the API server has them
	maxAffinity     = 86400
)

// Service reads how a Service is reached.
func Service(o *corev1.Service) (plan.Service, error) {
	_, foreign := o.Labels[labelProxyName]
	spec := &o.Spec
	s := plan.Service{
		Meta:            meta(&o.ObjectMeta),
		Foreign:         foreign,
		External:        spec.Type == corev1.ServiceTypeExternalName,
		Headless:        spec.ClusterIP == corev1.ClusterIPNone,
		PublishNotReady: spec.PublishNotReadyAddresses,
		InternalLocal:   spec.InternalTrafficPolicy != nil && *spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
	}
	var f faults
	switch spec.Type {
	case "", corev1.ServiceTypeExternalName, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
	default:
		f.add(fmt.Errorf("%q is none", spec.Type), "spec.type")
	}
	if !s.Headless && !s.External {
		s.VIPs = clusterIPs(spec, &f)
	}
	s.Ports = servicePorts(spec, &f)
	s.AffinitySeconds = affinity(spec, &f)
	s.Outside = outside(o, &s.Meta, &f)
	return s, f.err()
}

// clusterIPs reads clusterIPs, or clusterIP where only that is given.
func clusterIPs(spec *corev1.ServiceSpec, f *faults) []netip.Addr {
	all := spec.ClusterIPs
	if len(all) == 0 && spec.ClusterIP != "" {
		all = []string{spec.ClusterIP}
	}
	if len(all) > 0 && spec.ClusterIP != "" && all[0] != spec.ClusterIP {
		f.add(fmt.Errorf("%q is not spec.clusterIP %q", all[0], spec.ClusterIP), "spec.clusterIPs[0]")
		return nil
	}
	return addressList(all, "spec.clusterIPs[%d]", f)
}

func addressList(all []string, field string, f *faults) []netip.Addr {
	var out []netip.Addr
	for i, s := range all {
		a, err := address(s)
		f.add(err, field, i)
		if err == nil {
			out = append(out, a)
		}
	}
	return out
}

func servicePorts(spec *corev1.ServiceSpec, f *faults) []plan.ServicePort {
	var out []plan.ServicePort
	for i, p := range spec.Ports {
		proto, bad := protocol(p.Protocol)
		f.add(bad, "spec.ports[%d].protocol", i)
		number, err := port(p.Port)
		f.add(err, "spec.ports[%d].port", i)
		node, none := portOrNone(p.NodePort)
		f.add(none, "spec.ports[%d].nodePort", i)
		if bad == nil && err == nil {
			out = append(out, plan.ServicePort{Name: p.Name, Protocol: proto, Port: number, NodePort: node})
		}
	}
	return out
}

func affinity(spec *corev1.ServiceSpec, f *faults) uint32 {
	switch spec.SessionAffinity {
	case "", corev1.ServiceAffinityNone:
		return 0
	case corev1.ServiceAffinityClientIP:
	default:
		f.add(fmt.Errorf("%q is neither None nor ClientIP", spec.SessionAffinity), "spec.sessionAffinity")
		return 0
	}
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds := *c.ClientIP.TimeoutSeconds
		if seconds < 1 || seconds > maxAffinity {
			f.add(fmt.Errorf("%d is not between 1 and %d", seconds, maxAffinity), "spec.sessionAffinityConfig.clientIP.timeoutSeconds")
			return defaultAffinity
		}
		return uint32(seconds)
	}
	return defaultAffinity
}

// outside reads the ways in from outside. What the API server takes unread is
// a fault of the object: loadBalancerIP.
func outside(o *corev1.Service, m *plan.Meta, f *faults) plan.Outside {
	spec := &o.Spec
	out := plan.Outside{
		IPs:          addressList(spec.ExternalIPs, "spec.externalIPs[%d]", f),
		Local:        spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		SourceRanges: len(spec.LoadBalancerSourceRanges) > 0,
		LoadBalancer: spec.Type == corev1.ServiceTypeLoadBalancer && (spec.LoadBalancerClass == nil || *spec.LoadBalancerClass == LoadBalancerClass),
	}
	out.OtherClass = spec.Type == corev1.ServiceTypeLoadBalancer && !out.LoadBalancer
	var err error
	out.HealthPort, err = portOrNone(spec.HealthCheckNodePort)
	f.add(err, "spec.healthCheckNodePort")
	if spec.LoadBalancerIP != "" {
		if out.Wanted, err = address(spec.LoadBalancerIP); err != nil {
			m.Faults = append(m.Faults, fmt.Sprintf("field spec.loadBalancerIP: %v", err))
		}
	}
	out.Pool = annotations{of: o.Annotations, faults: &m.Faults}.pool()
	for _, i := range o.Status.LoadBalancer.Ingress {
		proxy := i.IPMode != nil && *i.IPMode == corev1.LoadBalancerIPModeProxy // it ends at a proxy, and never comes here
		if a, err := address(i.IP); err == nil && !proxy {                      // a host name is nobody's address
			out.Ingress = append(out.Ingress, a)
		}
	}
	return out
}

// Slice reads an EndpointSlice. Slices of names, and those of no Service, are not ours.
func Slice(o *discoveryv1.EndpointSlice) (plan.EndpointSlice, error) {
	s := plan.EndpointSlice{Meta: meta(&o.ObjectMeta), Service: o.Labels[discoveryv1.LabelServiceName]}
	switch o.AddressType {
	case discoveryv1.AddressTypeIPv4:
	case discoveryv1.AddressTypeIPv6:
		s.V6 = true
	case discoveryv1.AddressTypeFQDN:
		return s, ErrNotOurs
	default:
		return s, fmt.Errorf("field addressType: %q is none", o.AddressType)
	}
	if s.Service == "" {
		return s, ErrNotOurs
	}
	var f faults
	for i := range o.Ports {
		p, err := endpointPort(&o.Ports[i])
		if err != nil {
			f = append(f, fmt.Errorf("field ports[%d].%w", i, err))
			continue
		}
		s.Ports = append(s.Ports, p)
	}
	for i := range o.Endpoints {
		e, err := endpoint(&o.Endpoints[i], s.V6)
		if err != nil {
			f = append(f, fmt.Errorf("field endpoints[%d].%w", i, err))
			continue
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s, f.err()
}

func endpointPort(p *discoveryv1.EndpointPort) (plan.EndpointPort, error) {
	var out plan.EndpointPort
	if p.Name != nil {
		out.Name = *p.Name
	}
	proto := corev1.ProtocolTCP
	if p.Protocol != nil {
		proto = *p.Protocol
	}
	var err error
	if out.Protocol, err = protocol(proto); err != nil {
		return out, fmt.Errorf("protocol: %w", err)
	}
	if p.Port != nil {
		if out.Port, err = port(*p.Port); err != nil {
			return out, fmt.Errorf("port: %w", err)
		}
	}
	return out, nil
}

// endpoint takes the first address; the API gives further ones no meaning.
func endpoint(e *discoveryv1.Endpoint, v6 bool) (plan.Endpoint, error) {
	out := plan.Endpoint{Ready: e.Conditions.Ready, Serving: e.Conditions.Serving, Terminating: e.Conditions.Terminating}
	if len(e.Addresses) == 0 {
		return out, errors.New("addresses: none")
	}
	a, err := address(e.Addresses[0])
	switch {
	case err != nil:
		return out, fmt.Errorf("addresses[0]: %w", err)
	case a.Is6() != v6:
		return out, fmt.Errorf("addresses[0]: %v is not of the slice's addressType", a)
	}
	out.Address = a
	if e.NodeName != nil {
		out.Node = *e.NodeName
	}
	if t := e.TargetRef; t != nil && t.Kind == "Pod" {
		out.Pod = &plan.PodRef{Namespace: t.Namespace, Name: t.Name, UID: string(t.UID)}
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.HintZones = append(out.HintZones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			out.HintNodes = append(out.HintNodes, n.Name)
		}
	}
	return out, nil
}
