package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	cni "github.com/containernetworking/cni/pkg/types"
	types "github.com/containernetworking/cni/pkg/types/100"
)

// Namespace is the Kubernetes namespace of the lab's pods.
const Namespace = "demo"

// Pod is a network namespace that the CNI plugin has attached.
type Pod struct {
	*Place
	Node        *Node
	ContainerID string
	Four, Six   netip.Addr
	Result      *types.Result // of ADD
}

// Attach makes the namespace of a pod and runs ADD for it on a node, as a
// container runtime does. The pod must be in the manifests.
func (l *Lab) Attach(ctx context.Context, node, name string) (*Pod, error) {
	p, err := l.NewPod(ctx, node, name)
	if err != nil {
		return nil, err
	}
	if err := l.Add(ctx, p); err != nil {
		l.Discard(p)
		return nil, fmt.Errorf("attach %s: %w", name, err)
	}
	l.pods[name] = p
	return p, nil
}

// NewPod makes the namespace of a pod and attaches nothing.
func (l *Lab) NewPod(ctx context.Context, node, name string) (*Pod, error) {
	p := &Pod{
		Place:       l.place(name),
		Node:        l.Nodes[node],
		ContainerID: l.Name + "-" + name,
	}
	return p, addNamespace(ctx, p.Netns)
}

// Discard removes the namespace of a pod that NewPod made, and nothing else.
func (l *Lab) Discard(p *Pod) { _ = deleteNamespace(p.Netns) }

// Add runs ADD, for the first time or once more. The namespace exists.
func (l *Lab) Add(ctx context.Context, p *Pod) error {
	return p.cni(l, func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		raw, err := c.AddNetworkList(ctx, list, rt)
		if err != nil {
			return err
		}
		if p.Result, err = types.NewResultFromResult(raw); err != nil {
			return err
		}
		for _, ip := range p.Result.IPs {
			if a, _ := netip.AddrFromSlice(ip.Address.IP); a.Unmap().Is4() {
				p.Four = a.Unmap()
			} else {
				p.Six = a
			}
		}
		return nil
	})
}

// Del runs DEL for the pod; its namespace stays.
func (l *Lab) Del(ctx context.Context, p *Pod) error {
	return p.cni(l, func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return c.DelNetworkList(ctx, list, rt)
	})
}

// Check runs CHECK for the pod.
func (l *Lab) Check(ctx context.Context, p *Pod) error {
	return p.cni(l, func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return c.CheckNetworkList(ctx, list, rt)
	})
}

// Detach runs DEL and removes the pod's namespace.
func (l *Lab) Detach(ctx context.Context, p *Pod) error {
	if err := l.Del(ctx, p); err != nil {
		return fmt.Errorf("detach %s: %w", p.Name, err)
	}
	delete(l.pods, p.Name)
	return deleteNamespace(p.Netns)
}

// GC tells the plugin which pods of the node are still there.
func (l *Lab) GC(ctx context.Context, n *Node, valid ...*Pod) error {
	args := &libcni.GCArgs{}
	for _, p := range valid {
		args.ValidAttachments = append(args.ValidAttachments, cni.GCAttachment{ContainerID: p.ContainerID, IfName: "eth0"})
	}
	list, err := libcni.NetworkConfFromFile(n.ConflistFile())
	if err != nil {
		return err
	}
	return n.Do(func() error { return l.runtime(n).GCNetworkList(ctx, list, args) })
}

// Status asks the plugin of the node whether it can serve ADD.
func (l *Lab) Status(ctx context.Context, n *Node) error {
	list, err := libcni.NetworkConfFromFile(n.ConflistFile())
	if err != nil {
		return err
	}
	return n.Do(func() error { return l.runtime(n).GetStatusNetworkList(ctx, list) })
}

// Pod returns an attached pod, nil if there is none of that name.
func (l *Lab) Pod(name string) *Pod { return l.pods[name] }

// cni calls the runtime's library in the node's namespace, where plugins run.
func (p *Pod) cni(l *Lab, call func(*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf) error) error {
	list, err := libcni.NetworkConfFromFile(p.Node.ConflistFile())
	if err != nil {
		return err
	}
	rt := &libcni.RuntimeConf{
		ContainerID: p.ContainerID,
		NetNS:       p.Netns,
		IfName:      "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", Namespace},
			{"K8S_POD_NAME", p.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ContainerID},
		},
	}
	return p.Node.Do(func() error { return call(l.runtime(p.Node), list, rt) })
}

func (l *Lab) runtime(n *Node) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir([]string{l.Bin}, filepath.Join(n.state, "cni"), nil)
}
