// Package networks decides which networks there are and which one a pod is in. It
// owns no state: New is a function of its Input. It knows neither interfaces nor
// routes, and who may use which service is not decided here.
package networks

import (
	"net/netip"
	"strings"
)

// Kind says what a network is for.
type Kind uint8

const (
	DefaultPods Kind = iota // pods that ask for nothing else, and the hosts
	Isolated                // pods of a namespace that keeps to itself
	Custom                  // a VirtualNetwork: addresses of its own, which other custom networks may have too
	Services                // floating IPs of services; no pods
	External                // a VirtualNetwork that leads out of the cluster; no pods
)

// Network is a virtual-network.
type Network struct {
	UUID         string
	Name         string // one in the cluster; that of its VRF and its blocks
	Project      string
	Namespace    string // empty: of the whole cluster
	Kind         Kind
	Subnets      []netip.Prefix
	RouteTargets []string
	VIPs         *Network // of a network with pods: where the floating IPs of its services are
	OpenServices bool     // of an isolated one: everybody may use its services
	NoOutside    bool     // its pods reach nothing outside of the cluster
	Closing      bool     // no new pods: it is there for those that are in it
	Imports      []Import
}

// Import makes the routes of a network valid in another one, wholly or only
// for replies.
type Import struct {
	Network   *Network
	ReplyOnly bool
}

// Domain is the first element of every fully qualified name.
const Domain = "default-domain"

// FQName is Contrail's path of names.
func (n *Network) FQName() []string {
	name := n.Name
	if _, own, ours := strings.Cut(name, ":"); ours {
		name = own // a VirtualNetwork's, which is one in its project only
	}
	return []string{Domain, n.Project, name}
}

// HasPods tells whether pods may be in it, and nodes hold blocks of it.
func (n *Network) HasPods() bool { return n.Kind <= Custom }

// Translated tells whether its addresses mean nothing elsewhere.
func (n *Network) Translated() bool { return n.Kind == Custom }

// Config is what the operator decides about networks.
type Config struct {
	Cluster        string // prefix of every name
	PodSubnets     []netip.Prefix
	ServiceSubnets []netip.Prefix
}

// Project is the name of a namespace's project.
func (c Config) Project(namespace string) string { return c.Cluster + "-" + namespace }

// Pods is the name of a namespace's network for pods; of "default": everybody's.
func (c Config) Pods(namespace string) string { return c.Project(namespace) + "-pod-network" }

// Services is the name of a namespace's network for floating IPs.
func (c Config) Services(namespace string) string { return c.Project(namespace) + "-service-network" }

// VirtualNetwork is the name of a VirtualNetwork's network. No namespace has a
// colon in its name, so that it is no other network's.
func (c Config) VirtualNetwork(namespace, name string) string {
	return c.Project(namespace) + ":" + name
}
