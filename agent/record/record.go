// Package record names what an agent must remember across restarts: which pod
// owns which address and interface, the numbers it chose, and the last word of
// the controller. The values belong to whoever holds them; node state decides
// them (agent/state), the ledger keeps them (agent/ledger). Nothing here decides
// or stores anything.
package record

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vragent/vragent/fastpath/table"
)

// AttachmentKey is the CNI identity of a pod's interface.
type AttachmentKey struct {
	ContainerID string
	Ifname      string // inside the pod
}

func (k AttachmentKey) String() string { return k.ContainerID + "/" + k.Ifname }

// ParseAttachmentKey is the inverse of String.
func ParseAttachmentKey(s string) (AttachmentKey, error) {
	id, ifname, ok := strings.Cut(s, "/")
	if !ok || id == "" || ifname == "" || strings.Contains(ifname, "/") {
		return AttachmentKey{}, fmt.Errorf("attachment key %q: want container/interface", s)
	}
	return AttachmentKey{id, ifname}, nil
}

// IOTap as the IO of an attachment: the pod's interface is a tap of the fast path.
const IOTap = "tap"

// Attachment is an interface of a pod. More than 12 fields: this is the whole
// record, as it lies in the ledger.
type Attachment struct {
	// From the plugin.
	ContainerID string `json:"containerID"`
	Ifname      string `json:"ifname"`
	Network     string `json:"network,omitempty"` // name in the conflist
	Netns       string `json:"netns"`
	Namespace   string `json:"namespace"`
	Pod         string `json:"pod"`
	PodUID      string `json:"podUID,omitempty"`

	// From the controller.
	VMI string `json:"vmi"` // uuid
	VN  string `json:"vn"`  // virtual network

	// Chosen by the agent.
	Tap     string       `json:"tap"`
	MAC     table.MAC    `json:"mac"` // pod end
	Addrs   []netip.Addr `json:"addrs"`
	MTU     int          `json:"mtu"` // bytes
	Created time.Time    `json:"created"`
	IO      string       `json:"io,omitempty"` // IOTap; else a veth

	// Chosen by the agent for pods of translated networks.
	ClusterAddrs []netip.Addr `json:"clusterAddrs,omitempty"`
	ClusterVN    string       `json:"clusterVN,omitempty"` // the network they are of
	Hidden       bool         `json:"hidden,omitempty"`    // the host reaches the pod by them alone
}

// Key identifies the attachment.
func (a *Attachment) Key() AttachmentKey { return AttachmentKey{a.ContainerID, a.Ifname} }

// Validate refuses what no agent would have written.
func (a *Attachment) Validate() error {
	switch {
	case a.ContainerID == "" || a.Ifname == "" || strings.Contains(a.ContainerID, "/") || strings.Contains(a.Ifname, "/"):
		return errors.New("no container or interface")
	case a.VMI == "" || a.VN == "":
		return errors.New("no interface or network of the controller")
	case a.Tap == "" || len(a.Tap) > 15:
		return fmt.Errorf("tap %q: want 1 to 15 bytes", a.Tap)
	case len(a.Addrs) == 0:
		return errors.New("no address")
	case len(a.ClusterAddrs) > 0 && a.ClusterVN == "":
		return errors.New("cluster addresses of no network")
	}
	for _, addr := range slices.Concat(a.Addrs, a.ClusterAddrs) {
		if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() {
			return fmt.Errorf("address %v: not a unicast one", addr)
		}
	}
	return nil
}

// Host is the node's own interface in a virtual network.
type Host struct {
	VN    string       `json:"vn"`
	Addrs []netip.Addr `json:"addrs"`
}

// Spaces of numbers.
const (
	SpaceVif   = "vif"
	SpaceVRF   = "vrf"
	SpaceNH    = "nh"
	SpaceLabel = "label"
)

// IDKey is the natural key of a number.
type IDKey struct {
	Space string
	Key   string // tunnel/192.0.2.1
}

// ID is a number chosen for a natural key.
type ID struct {
	IDKey
	Number uint32
}

// ResourceKey identifies a resource of the controller.
type ResourceKey struct {
	Type int32 // southbound.Type
	Name string
}

// Resource is the controller's last word about something.
type Resource struct {
	ResourceKey
	Version string
	Body    []byte // encoded as it came
	// Orphan resources were removed by the controller while a pod still used
	// them. They are not told to the controller as held.
	Orphan bool
}

// Contents is everything remembered.
type Contents struct {
	Attachments []Attachment
	Hosts       []Host
	IDs         []ID
	Resources   []Resource

	Found Found // not in the ledger
}

// Found is what the kernel and the fast path show of things the ledger does not
// know: it was lost, or is older than they are.
type Found struct {
	Lost []Lost
	Host []netip.Addr // of the host's interface
	IDs  []ID
}

// Change is what is to be remembered in one step, all or nothing; a nil value
// or the number 0 means forget.
type Change struct {
	Attachments map[AttachmentKey]*Attachment
	Hosts       map[string]*Host // by network
	IDs         map[IDKey]uint32
	Resources   map[ResourceKey]*Resource
}

// Empty reports whether there is nothing to do.
func (c *Change) Empty() bool {
	return len(c.Attachments) == 0 && len(c.Hosts) == 0 && len(c.IDs) == 0 && len(c.Resources) == 0
}
