// Package rpc is the contract between the agent and its local clients: the CNI
// plugin and the CLI. Messages are JSON frames (fastpath/control/wire) on a
// Unix socket, mode 0600; one request, one reply, in order. It keeps no state.
package rpc

import (
	"net/netip"
	"time"

	"github.com/vragent/vragent/fastpath/table"
)

// SocketName is the socket's file name in the run directory.
const SocketName = "agent.sock"

// DefaultRunDir is where sockets live unless configured otherwise.
const DefaultRunDir = "/run/vragent"

// Codes of Error, as the CNI specification gives them (section "Error codes"
// and STATUS); 100 and up are ours.
const (
	CodeInvalidConfig = 7   // the request can never succeed as it is
	CodeTryAgain      = 11  // kubelet retries
	CodeNotAvailable  = 50  // STATUS: the plugin cannot serve ADD
	CodeDegraded      = 51  // STATUS: existing containers may have limited connectivity
	CodeUnknownPod    = 100 // CHECK, DEL: no such attachment
	CodeConflict      = 101 // ADD: the attachment exists elsewhere
	CodeChanged       = 102 // CHECK: the interface is not as ADD made it, or not live in the fast path
	CodeInternal      = 999
)

// Error is a refusal: Message names the object and the cause, Fix what to do.
type Error struct {
	Code    uint   `json:"code"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

func (e *Error) Error() string {
	if e.Fix == "" {
		return e.Message
	}
	return e.Message + " (" + e.Fix + ")"
}

// Request is one call; exactly one field is set.
type Request struct {
	Attach *Attach `json:"attach,omitempty"` // CNI ADD, step 1: allocate and record
	Bind   *Bind   `json:"bind,omitempty"`   // CNI ADD, step 2: the tap exists, attach it to the fast path
	Detach *Detach `json:"detach,omitempty"` // CNI DEL
	Check  *Check  `json:"check,omitempty"`  // CNI CHECK
	GC     *GC     `json:"gc,omitempty"`     // CNI GC
	Ready  *Empty  `json:"ready,omitempty"`  // CNI STATUS

	Status *Empty `json:"status,omitempty"`
	VMIs   *Empty `json:"vmis,omitempty"`
	Blocks *Empty `json:"blocks,omitempty"`
	Leaks  *Leaks `json:"leaks,omitempty"`
}

// Empty carries nothing.
type Empty struct{}

// Attachment is the CNI identity of a pod's interface.
type Attachment struct {
	ContainerID string `json:"containerID"`
	Ifname      string `json:"ifname"`            // inside the pod: eth0
	Network     string `json:"network,omitempty"` // name in the conflist
}

// Attach asks for an address, a label and a vif for a pod.
type Attach struct {
	Attachment
	Netns     string `json:"netns"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	PodUID    string `json:"podUID,omitempty"`
	// Wait bounds how long the agent may wait for the pod's VMI from the controller.
	Wait time.Duration `json:"wait,omitempty"`
}

// Interface is what the plugin builds.
type Interface struct {
	Tap      string         `json:"tap"`      // host end, at most 15 bytes: tap + 11 of the VMI's uuid
	MAC      table.MAC      `json:"mac"`      // pod end
	Addrs    []netip.Addr   `json:"addrs"`    // /32 and /128
	Gateways []netip.Addr   `json:"gateways"` // 169.254.1.1, fe80::1: one per family of Addrs
	MTU      int            `json:"mtu"`      // bytes
	VMI      string         `json:"vmi"`
	Network  string         `json:"network"` // virtual network
	Routes   []netip.Prefix `json:"routes"`  // via the gateway of the family; the default routes
	// PodIPs are what the pod is known by outside: the ips of the CNI result. They
	// are Addrs, or, if its host cannot reach these, addresses that lead to them.
	PodIPs []netip.Addr `json:"podIPs"`
	IO     string       `json:"io,omitempty"` // tap: both ends are taps; else a veth
}

// Bind says the tap exists (still down) with this index.
type Bind struct {
	Attachment
	Ifindex int `json:"ifindex"`
}

// Detach forgets an attachment. Unknown ones succeed.
type Detach struct {
	Attachment
	Netns string `json:"netns,omitempty"` // may be empty
}

// Check asks whether the attachment is known, and its vif live in the fast path
// and attached to the interface of this index.
type Check struct {
	Attachment
	Ifindex int `json:"ifindex"`
}

// GC names the attachments that are still valid in a network; others go.
type GC struct {
	Network string       `json:"network"`
	Valid   []Attachment `json:"valid"`
}

// Reply answers a Request.
type Reply struct {
	Error *Error `json:"error,omitempty"`

	Interface *Interface `json:"interface,omitempty"` // Attach, Check
	Removed   []string   `json:"removed,omitempty"`   // GC: what went, for the log
	Status    *Status    `json:"status,omitempty"`
	VMIs      []VMI      `json:"vmis,omitempty"`
	Blocks    []Block    `json:"blocks,omitempty"`
	Leaks     *LeakCheck `json:"leaks,omitempty"`
}

// Status is the agent's health.
type Status struct {
	Node       string      `json:"node"`
	PID        int         `json:"pid"`
	Version    string      `json:"version"`
	Started    time.Time   `json:"started"`
	Fabric     string      `json:"fabric"` // interface
	Address    netip.Addr  `json:"address"`
	Conditions []Condition `json:"conditions"`
	VMIs       int         `json:"vmis"`
	Attached   int         `json:"attached"`

	Controllers    []Controller `json:"controllers,omitempty"`   // the primary first
	CertificateEnd time.Time    `json:"certificateEnd,omitzero"` // of this node's; zero: it has none
	// KubeProxyReplacement: node ports and external addresses are ours to serve.
	KubeProxyReplacement bool `json:"kubeProxyReplacement"`
}

// Controller is one stream: the primary's, by which the agent is told, or a
// standby's, which only listens.
type Controller struct {
	Address   string    `json:"address"`
	Primary   bool      `json:"primary"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Error     string    `json:"error,omitempty"`
}

// Condition is one line of health: what, since when, the evidence, what to do.
type Condition struct {
	Name    string    `json:"name"` // controller, certificate, fastpath, ledger, blocks, host, forwarding, fabric
	OK      bool      `json:"ok"`
	Since   time.Time `json:"since"`
	Message string    `json:"message"`
	Fix     string    `json:"fix,omitempty"`
}

// VMI is a virtual machine interface: a pod's interface as the agent knows it.
// More than 12 fields: they are what `vragent vmi` prints.
type VMI struct {
	UUID      string       `json:"uuid"`
	Name      string       `json:"name"`
	Namespace string       `json:"namespace"`
	Pod       string       `json:"pod"`
	Network   string       `json:"network"`
	Addrs     []netip.Addr `json:"addrs,omitempty"`
	// ClusterAddrs are its addresses outside of its own network, if that is a translated one.
	ClusterAddrs []netip.Addr `json:"clusterAddrs,omitempty"`
	MAC          table.MAC    `json:"mac,omitzero"`
	Label        table.Label  `json:"label,omitempty"`
	Vif          table.VifID  `json:"vif,omitempty"`
	Tap          string       `json:"tap,omitempty"`
	State        string       `json:"state"`                 // expected (no ADD yet), refused, attached, orphan (no longer configured)
	Refusal      string       `json:"refusal,omitempty"`     // why the pod has no network
	FloatingIPs  []string     `json:"floatingIPs,omitempty"` // 10.96.0.10 TCP 8888 -> 80
}

// Block is a lease of addresses.
type Block struct {
	Network string       `json:"network"`
	Prefix  netip.Prefix `json:"prefix"`
	Used    int          `json:"used"`
	Free    int          `json:"free"`
}

// Leaks asks for a comparison of all who have an opinion on addresses: the
// ledger, the pools, the interfaces of the kernel, the fast path.
type Leaks struct {
	Repair bool `json:"repair,omitempty"`
}

// LeakCheck is its outcome.
type LeakCheck struct {
	Addresses int    `json:"addresses"` // that were looked at
	Leaks     []Leak `json:"leaks"`
}

// Leak is one disagreement.
type Leak struct {
	Network  string     `json:"network"`
	Addr     netip.Addr `json:"addr"`
	Owner    string     `json:"owner,omitempty"` // namespace/pod, or who else has it
	Cause    string     `json:"cause"`           // a sentence
	Fix      string     `json:"fix,omitempty"`   // what is left to do
	Repaired bool       `json:"repaired"`
}
