package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// VirtualNetwork is a network of its own: pods that name it in the annotation
// opencontrail.org/network are in it. Networks may have overlapping subnets.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=vn,categories=vragent
// +kubebuilder:printcolumn:name=Subnets,type=string,JSONPath=.spec.subnets
// +kubebuilder:printcolumn:name=External,type=boolean,JSONPath=.spec.external
// +kubebuilder:printcolumn:name=SNAT,type=boolean,JSONPath=.spec.snat
// +kubebuilder:printcolumn:name=RouteTargets,type=string,JSONPath=.spec.routeTargets,priority=1
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=.metadata.creationTimestamp
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name has at most 63 characters: it is a part of other names"
type VirtualNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec VirtualNetworkSpec `json:"spec"`
}

// VirtualNetworkSpec says what addresses a network has and what it is joined to.
type VirtualNetworkSpec struct {
	// Subnets are the network's addresses, IPv4 and IPv6, as 10.0.0.0/16. More may
	// be added; none can be removed or changed, since pods and services hold
	// addresses of them.
	//
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="!self.all(s, isCIDR(s)) || self.all(s, self.filter(o, cidr(s).containsCIDR(o)).size() == 1)",message="two subnets overlap"
	// +kubebuilder:validation:XValidation:rule="oldSelf.all(s, s in self)",message="subnets may be added, not removed or changed: pods and services hold addresses of them; make another network instead"
	Subnets []Prefix `json:"subnets"`

	// RouteTargets are the route targets with which gateways import and export the
	// network's routes, as target:64512:100.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	RouteTargets []RouteTarget `json:"routeTargets,omitempty"`

	// External networks lead out of the cluster: their addresses are given to
	// services and pods as floating IPs; no pod is in them.
	//
	// +optional
	// +kubebuilder:default=false
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a network stays external or internal; make another network instead"
	External bool `json:"external"`

	// SNAT lets the network's pods reach what is outside of the cluster, with their
	// node's address.
	//
	// +optional
	// +kubebuilder:default=true
	SNAT *bool `json:"snat,omitempty"`
}

// Prefix is an IPv4 or IPv6 prefix without host bits.
//
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self)",messageExpression="self + ' is no prefix in CIDR form, such as 10.0.0.0/16 or 2001:db8::/64'"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",messageExpression="self + ' has host bits: the address must be the first of the prefix, as in 10.0.0.0/16'"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).prefixLength() > 0 && cidr(self).ip().isGlobalUnicast()",messageExpression="self + ' is not of addresses that hosts may have (it is everything, loopback, link-local or multicast)'"
type Prefix string

// RouteTarget is target:<AS number>:<number>.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^target:[0-9]{1,10}:[0-9]{1,10}$')",messageExpression="self + ' is no route target, such as target:64512:100'"
// +kubebuilder:validation:XValidation:rule="!self.matches('^target:[0-9]{1,10}:[0-9]{1,10}$') || (int(self.split(':')[1]) <= 65535 ? int(self.split(':')[2]) <= 4294967295 : int(self.split(':')[1]) <= 4294967295 && int(self.split(':')[2]) <= 65535)",messageExpression="self + ' has a number that is too large: up to 4294967295 behind an AS number of 16 bits, up to 65535 behind one of 32 bits'"
type RouteTarget string

// VirtualNetworkList is a list of VirtualNetworks.
//
// +kubebuilder:object:root=true
type VirtualNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VirtualNetwork `json:"items"`
}

// FloatingIPPool offers addresses of an external VirtualNetwork of its namespace to
// services of type LoadBalancer, which name it in the annotation
// opencontrail.org/fip-pool.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=fippool,categories=vragent
// +kubebuilder:printcolumn:name=Network,type=string,JSONPath=.spec.virtualNetwork
// +kubebuilder:printcolumn:name=Subnets,type=string,JSONPath=.spec.subnets
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=.metadata.creationTimestamp
type FloatingIPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec FloatingIPPoolSpec `json:"spec"`
}

// FloatingIPPoolSpec says where a pool's addresses come from.
//
// +kubebuilder:validation:XValidation:rule="!has(self.subnets) || has(oldSelf.subnets) && oldSelf.subnets.all(s, s in self.subnets)",message="a pool may grow, not shrink: services hold addresses of its subnets (without subnets it has all of its network's); make another pool instead"
type FloatingIPPoolSpec struct {
	// VirtualNetwork is the name of an external VirtualNetwork of the same namespace.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a pool stays with its network; make another pool instead"
	VirtualNetwork string `json:"virtualNetwork"`

	// Subnets are the part of the network's addresses that the pool has; without
	// them it has all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="!self.all(s, isCIDR(s)) || self.all(s, self.filter(o, cidr(s).containsCIDR(o)).size() == 1)",message="two subnets overlap"
	Subnets []Prefix `json:"subnets,omitempty"`
}

// FloatingIPPoolList is a list of FloatingIPPools.
//
// +kubebuilder:object:root=true
type FloatingIPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []FloatingIPPool `json:"items"`
}
