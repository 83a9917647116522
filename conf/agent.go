package conf

import (
	"fmt"
	"net/netip"
	"os"
)

// AgentFile is where vragent looks for its configuration.
const AgentFile = "/etc/vragent/vragent.yaml"

// Agent configures vragent: the agent, the fast path it starts, and the CLI.
type Agent struct {
	Node       string      `json:"node"`     // default: NODE_NAME of the environment, else the host's name
	RunDir     string      `json:"runDir"`   // sockets, detach/ spool, bpf/ pins
	StateDir   string      `json:"stateDir"` // ledger.db; enrollment.json in a cluster
	Fabric     Fabric      `json:"fabric"`
	Controller Upstream    `json:"controller"`
	Kubernetes *Kubernetes `json:"kubernetes"` // nil: certificates and addresses are given under controller
	Fastpath   Fastpath    `json:"fastpath"`
	Host       Host        `json:"host"`
	// KubeProxyReplacement: node ports and external addresses are served by us.
	KubeProxyReplacement bool `json:"kubeProxyReplacement"`
	MTU                  int  `json:"mtu"` // bytes, of pods; 0: the fabric's less the encapsulation
	// IO is how packets of pods come to the workers: veth (by the punt link) or tap. An
	// annotation of the pod says otherwise.
	IO  string `json:"io"`
	Log Log    `json:"log"`
}

// FabricAuto as fabric.interface stands for the one that holds the node's address.
const FabricAuto = "auto"

// Fabric is the interface that carries tunnels.
type Fabric struct {
	Interface string     `json:"interface"` // or FabricAuto
	Address   netip.Addr `json:"address"`   // IPv4, of the tunnels; default: the interface's first global one
	// IO is how tunnel packets come to the workers: by tcx and the punt link, or by
	// AF_XDP sockets on the interface itself.
	IO string `json:"io"` // tcx, afxdp
}

// Upstream is where the controllers are and who we are to them.
type Upstream struct {
	Addresses []string `json:"addresses"` // host:port
	CA        string   `json:"ca"`        // PEM files
	Cert      string   `json:"cert"`
	Key       string   `json:"key"`
}

// Fastpath configures the data plane's process.
type Fastpath struct {
	Start        bool   `json:"start"`        // false: only adopt one that runs
	Workers      int    `json:"workers"`      // threads that forward packets
	Cores        []int  `json:"cores"`        // one per worker; empty: not pinned
	Poll         string `json:"poll"`         // busy, adaptive
	FlowEntries  int    `json:"flowEntries"`  // per worker; a connection takes two
	FlowEntries6 int    `json:"flowEntries6"` // the same for IPv6, whose entries are twice as large
	Frames       int    `json:"frames"`       // packet buffers of 4096 bytes, per worker
	Offload      string `json:"offload"`      // off, auto, force: which established flows the kernel forwards
	Attach       string `json:"attach"`       // auto, tcx, clsact: how programs are attached to interfaces
	Log          string `json:"log"`          // file; empty: runDir/fastpath.log
}

// Host is the node's own interface into the virtual networks.
type Host struct {
	Interface  string `json:"interface"`
	Masquerade bool   `json:"masquerade"` // pods leave the cluster with the node's address
}

// Limits of the fast path's own formats.
const (
	maxWorkers     = 128     // a flow index has 8 bits for the worker; one message carries 253 descriptors
	maxFlowEntries = 1 << 23 // and 24 for the slot, three quarters of them filled
	maxBothEntries = 3 << 22 // of both families
	maxFrames      = 1 << 20
	minMTU         = 1280 // RFC 8200 section 5
	maxMTU         = 65535
)

// LoadAgent reads the file, fills in defaults and checks every key.
func LoadAgent(file string) (*Agent, error) {
	a := defaultAgent()
	if err := loadYAML(file, a); err != nil {
		return nil, err
	}
	if a.Node == "" {
		a.Node = os.Getenv("NODE_NAME")
	}
	if a.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, &Error{file, "node", "is missing and the host's name is unknown: " + err.Error(), "set it"}
		}
		a.Node = name
	}
	if a.Kubernetes != nil {
		a.Kubernetes.complete()
	} else {
		a.Controller.complete()
	}
	if err := a.check(file); err != nil {
		return nil, err
	}
	return a, nil
}

func defaultAgent() *Agent {
	return &Agent{
		RunDir:   "/run/vragent",
		StateDir: "/var/lib/vragent",
		Fabric:   Fabric{IO: "tcx"},
		Fastpath: Fastpath{
			Start:        true,
			Workers:      1,
			Poll:         "adaptive",
			FlowEntries:  1 << 18,
			FlowEntries6: 1 << 16,
			Frames:       4096,
			Offload:      "auto",
			Attach:       "auto",
		},
		IO:   "veth",
		Host: Host{Interface: "vhost0", Masquerade: true},
		Log:  Log{Level: "info", Format: "text"},
	}
}

func (a *Agent) check(file string) error {
	c := &checks{file: file}
	c.runDir("runDir", a.RunDir)
	c.absolute("stateDir", a.StateDir)
	c.ifname("fabric.interface", a.Fabric.Interface, "name the interface that reaches the other nodes, e.g. eth0; auto takes the one with the node's address")
	if addr := a.Fabric.Address; addr.IsValid() && (!addr.Is4() || addr.IsLoopback() || addr.IsMulticast() || addr.IsUnspecified()) {
		c.fail("fabric.address", fmt.Sprintf("%v is not a unicast IPv4 address", addr), "tunnels run over IPv4")
	}
	c.oneOf("fabric.io", a.Fabric.IO, "tcx", "afxdp")
	a.Controller.check(c, a.Kubernetes != nil)
	if a.Kubernetes != nil {
		a.Kubernetes.check(c)
	}
	a.Fastpath.check(c)
	c.ifname("host.interface", a.Host.Interface, "the default is vhost0")
	if a.Host.Interface == a.Fabric.Interface && a.Host.Interface != "" {
		c.fail("host.interface", "is the same as fabric.interface", "vragent makes it; choose a name that is free")
	}
	c.oneOf("io", a.IO, "veth", "tap")
	if a.MTU != 0 {
		c.within("mtu", a.MTU, minMTU, maxMTU, "0 takes the fabric's less the encapsulation")
	}
	a.Log.check(c)
	return c.err()
}

// complete fills in where "vrcontroller certs" puts its files.
func (u *Upstream) complete() {
	setDefault(&u.CA, "/etc/vragent/ca.crt")
	setDefault(&u.Cert, "/etc/vragent/node.crt")
	setDefault(&u.Key, "/etc/vragent/node.key")
}

func (u Upstream) check(c *checks, enrolls bool) {
	if len(u.Addresses) == 0 && !enrolls {
		c.fail("controller.addresses", "is missing", `list the controllers, e.g. ["192.0.2.1:7443"], or say "kubernetes: {}" to have the API asked`)
	}
	for i, address := range u.Addresses {
		c.hostPort(fmt.Sprintf("controller.addresses[%d]", i), address, true)
	}
	for _, f := range []struct{ key, path string }{{"ca", u.CA}, {"cert", u.Cert}, {"key", u.Key}} {
		switch {
		case !enrolls:
			c.absolute("controller."+f.key, f.path)
		case f.path != "":
			c.fail("controller."+f.key, "is of no use beside kubernetes: the agent enrolls", "remove one of the two")
		}
	}
}

func (f Fastpath) check(c *checks) {
	c.within("fastpath.workers", f.Workers, 1, maxWorkers, "one per core to spend on forwarding")
	if len(f.Cores) != 0 && len(f.Cores) != f.Workers {
		c.fail("fastpath.cores", fmt.Sprintf("names %d cores for %d workers", len(f.Cores), f.Workers), "one each, or none at all")
	}
	used := map[int]bool{}
	for i, core := range f.Cores {
		at := fmt.Sprintf("fastpath.cores[%d]", i)
		c.within(at, core, 0, 4095, "cores count from 0")
		if used[core] {
			c.fail(at, fmt.Sprintf("core %d is named twice", core), "give each worker its own")
		}
		used[core] = true
	}
	c.oneOf("fastpath.poll", f.Poll, "busy", "adaptive")
	c.within("fastpath.flowEntries", f.FlowEntries, 64, maxFlowEntries, "two per connection")
	c.within("fastpath.flowEntries6", f.FlowEntries6, 64, min(maxFlowEntries, maxBothEntries-f.FlowEntries), "two per connection")
	c.within("fastpath.frames", f.Frames, 256, maxFrames, "the default is 4096")
	c.oneOf("fastpath.offload", f.Offload, "off", "auto", "force")
	c.oneOf("fastpath.attach", f.Attach, "auto", "tcx", "clsact")
	if f.Log != "" {
		c.absolute("fastpath.log", f.Log)
	}
}
