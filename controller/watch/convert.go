package watch

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/vragent/vragent/controller/plan"
)

// labelProxyName says that another proxy serves the Service (Kubernetes has no constant for it in its API).
const labelProxyName = "service.kubernetes.io/service-proxy-name"

// meta reads an object's names as the API server would have completed them:
// namespace default, a UID, a creation time.
func (c *collector) meta(kind string, o *metav1.ObjectMeta, namespaced bool) (plan.Meta, error) {
	m := plan.Meta{Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), Created: o.CreationTimestamp.UTC()}
	switch {
	case m.Name == "":
		return m, fmt.Errorf("field metadata.name: missing")
	case len(validation.IsDNS1123Subdomain(m.Name)) > 0:
		return m, fmt.Errorf("field metadata.name: %q is not a name: %s", m.Name, validation.IsDNS1123Subdomain(m.Name)[0])
	case !namespaced && m.Namespace != "":
		return m, fmt.Errorf("field metadata.namespace: a %s has none", kind)
	case namespaced && m.Namespace == "":
		m.Namespace = corev1.NamespaceDefault
	}
	if m.Namespace != "" && len(validation.IsDNS1123Label(m.Namespace)) > 0 {
		return m, fmt.Errorf("field metadata.namespace: %q is not a name", m.Namespace)
	}
	if m.UID == "" {
		m.UID = plan.Derive(kind, m.Namespace, m.Name)
	}
	if o.CreationTimestamp.IsZero() {
		m.Created = c.born(objectKey{kind, m.Namespace, m.Name})
	}
	return m, nil
}

func (c *collector) namespace(o *corev1.Namespace) error {
	m, err := c.meta("Namespace", &o.ObjectMeta, false)
	c.out.Namespaces = append(c.out.Namespaces, plan.Namespace{Meta: m})
	return err
}

func (c *collector) node(o *corev1.Node) error {
	m, err := c.meta("Node", &o.ObjectMeta, false)
	if err != nil {
		return err
	}
	n := plan.Node{Meta: m}
	for i, a := range o.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		ip, err := address(a.Address)
		if err != nil {
			return fmt.Errorf("field status.addresses[%d].address: %w", i, err)
		}
		if ip.Is4() && !n.Address.IsValid() {
			n.Address = ip
		}
	}
	c.out.Nodes = append(c.out.Nodes, n)
	return nil
}

func (c *collector) pod(o *corev1.Pod) error {
	m, err := c.meta("Pod", &o.ObjectMeta, true)
	c.out.Pods = append(c.out.Pods, plan.Pod{
		Meta:        m,
		Node:        o.Spec.NodeName,
		HostNetwork: o.Spec.HostNetwork,
		Finished:    o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed,
	})
	return err
}

func (c *collector) service(o *corev1.Service) error {
	m, err := c.meta("Service", &o.ObjectMeta, true)
	if err != nil {
		return err
	}
	_, foreign := o.Labels[labelProxyName]
	s := plan.Service{
		Meta:            m,
		Foreign:         foreign,
		Headless:        o.Spec.ClusterIP == corev1.ClusterIPNone,
		PublishNotReady: o.Spec.PublishNotReadyAddresses,
		NodePorts:       o.Spec.Type == corev1.ServiceTypeNodePort,
		LoadBalancer:    o.Spec.Type == corev1.ServiceTypeLoadBalancer,
		ExternalIPs:     len(o.Spec.ExternalIPs) > 0,
	}
	switch o.Spec.Type {
	case corev1.ServiceTypeExternalName:
		s.External = true
	case "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
	default:
		return fmt.Errorf("field spec.type: %q is none", o.Spec.Type)
	}
	if !s.Headless && !s.External {
		if s.VIPs, err = clusterIPs(&o.Spec); err != nil {
			return err
		}
	}
	for i, p := range o.Spec.Ports {
		proto, err := protocol(p.Protocol)
		if err != nil {
			return fmt.Errorf("field spec.ports[%d].protocol: %w", i, err)
		}
		if p.Port < 1 || p.Port > 65535 {
			return fmt.Errorf("field spec.ports[%d].port: %d is no port", i, p.Port)
		}
		s.Ports = append(s.Ports, plan.ServicePort{Name: p.Name, Protocol: proto, Port: uint16(p.Port)})
	}
	c.out.Services = append(c.out.Services, s)
	return nil
}

// clusterIPs reads clusterIPs, or clusterIP where only that is given.
func clusterIPs(spec *corev1.ServiceSpec) ([]netip.Addr, error) {
	all := spec.ClusterIPs
	if len(all) == 0 && spec.ClusterIP != "" {
		all = []string{spec.ClusterIP}
	}
	if len(all) > 0 && spec.ClusterIP != "" && all[0] != spec.ClusterIP {
		return nil, fmt.Errorf("field spec.clusterIPs[0]: %q is not spec.clusterIP %q", all[0], spec.ClusterIP)
	}
	var out []netip.Addr
	for i, s := range all {
		a, err := address(s)
		if err != nil {
			return nil, fmt.Errorf("field spec.clusterIPs[%d]: %w", i, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func (c *collector) slice(o *discoveryv1.EndpointSlice) error {
	m, err := c.meta("EndpointSlice", &o.ObjectMeta, true)
	if err != nil {
		return err
	}
	s := plan.EndpointSlice{Meta: m, Service: o.Labels[discoveryv1.LabelServiceName]}
	switch o.AddressType {
	case discoveryv1.AddressTypeIPv4:
	case discoveryv1.AddressTypeIPv6:
		s.V6 = true
	case discoveryv1.AddressTypeFQDN:
		return nil // names are not backends of ours
	default:
		return fmt.Errorf("field addressType: %q is none", o.AddressType)
	}
	if s.Service == "" {
		return nil // belongs to no Service
	}
	for i, p := range o.Ports {
		port, err := endpointPort(&p)
		if err != nil {
			return fmt.Errorf("field ports[%d].%w", i, err)
		}
		s.Ports = append(s.Ports, port)
	}
	for i := range o.Endpoints {
		e, err := endpoint(&o.Endpoints[i], s.V6)
		if err != nil {
			return fmt.Errorf("field endpoints[%d].%w", i, err)
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	c.out.Slices = append(c.out.Slices, s)
	return nil
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
		if *p.Port < 1 || *p.Port > 65535 {
			return out, fmt.Errorf("port: %d is no port", *p.Port)
		}
		out.Port = uint16(*p.Port)
	}
	return out, nil
}

// endpoint takes the first address; the API gives further ones no meaning.
func endpoint(e *discoveryv1.Endpoint, v6 bool) (plan.Endpoint, error) {
	out := plan.Endpoint{Ready: e.Conditions.Ready, Serving: e.Conditions.Serving, Terminating: e.Conditions.Terminating}
	if len(e.Addresses) == 0 {
		return out, fmt.Errorf("addresses: none")
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
	return out, nil
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
