package networks

import (
	"strings"

	"github.com/vragent/vragent/controller/plan/cluster"
)

// Of is the network that a pod's annotations, or its namespace's, put it in;
// nil: why it can be put into none.
func (n *Networks) Of(p *cluster.Pod) (*Network, string) {
	if len(p.Faults) > 0 {
		return nil, p.Faults[0]
	}
	if p.Network != nil {
		return n.asked(p.Network, p.Namespace)
	}
	return n.OfNamespace(p.Namespace)
}

// OfNamespace is the network of the pods of a namespace that do not ask for
// another; nil: why there is none.
func (n *Networks) OfNamespace(name string) (*Network, string) {
	ns := n.namespaces[name]
	switch {
	case ns == nil && n.exists(name):
		return n.Host(), ""
	case ns == nil:
		return nil, "Namespace " + name + " is not known yet"
	case misplaced(ns) != "":
		return nil, "Namespace " + name + ": " + misplaced(ns)
	case ns.Network != nil:
		return n.asked(ns.Network, name)
	case ns.Isolated && name != "default":
		return n.byName[n.in.Pods(name)], ""
	}
	return n.Host(), ""
}

// misplaced is what could not be understood of a namespace and concerns the
// network of its pods.
func misplaced(ns *cluster.Namespace) string {
	for _, f := range ns.Faults {
		if !strings.Contains(f, "opencontrail.org/fip-pool") {
			return f
		}
	}
	return ""
}

// exists tells which namespaces are there without being said: a directory of
// manifests need not name any, and Kubernetes makes one by itself.
func (n *Networks) exists(namespace string) bool {
	return namespace == "default" || len(n.in.Namespaces) == 0
}

// asked finds the network that an annotation of an object in a namespace names.
func (n *Networks) asked(fq *cluster.FQName, namespace string) (*Network, string) {
	if fq.Name == "" {
		return nil, "annotation opencontrail.org/network names no network"
	}
	if fq.Domain != "" && fq.Domain != Domain {
		return nil, "annotation opencontrail.org/network names the domain " + fq.Domain + "; there is only " + Domain
	}
	if x := n.byName[fq.Name]; x != nil && !x.Closing && (fq.Project == "" || fq.Project == x.Project) {
		return usable(x, "virtual network "+x.Name)
	}
	owners := []string{namespace}
	if fq.Project != "" {
		owners = []string{fq.Project}
		if own, ours := strings.CutPrefix(fq.Project, n.in.Cluster+"-"); ours {
			owners = []string{own, fq.Project} // as Contrail writes it; or a namespace that is called so
		}
	}
	for _, ns := range owners {
		if why := n.Unusable(ns, fq.Name); why != "" {
			return nil, "VirtualNetwork " + ns + "/" + fq.Name + " cannot be used: " + why
		}
		if x := n.byName[n.in.VirtualNetwork(ns, fq.Name)]; x != nil && !x.Closing {
			return usable(x, "VirtualNetwork "+ns+"/"+fq.Name)
		}
	}
	return nil, "VirtualNetwork " + owners[0] + "/" + fq.Name + " does not exist"
}

func usable(x *Network, what string) (*Network, string) {
	switch x.Kind {
	case External:
		return nil, what + " is external: its addresses are given to services, it has no pods"
	case Services:
		return nil, what + " is for services: it has no pods"
	}
	return x, ""
}
