package conf

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

// ControllerFile is where vrcontroller looks for its configuration.
const ControllerFile = "/etc/vragent/vrcontroller.yaml"

// Sources of the cluster's objects.
const (
	SourceManifests  = "manifests"
	SourceKubernetes = "kubernetes"
)

// Controller configures vrcontroller.
type Controller struct {
	Cluster   string   `json:"cluster"` // prefix of the names of virtual networks
	Source    string   `json:"source"`  // manifests, kubernetes
	Listen    Listen   `json:"listen"`
	Networks  Networks `json:"networks"`
	NodePorts bool     `json:"nodePorts"` // nodes serve them, without kube-proxy
	Log       Log      `json:"log"`

	// source: manifests
	Manifests string `json:"manifests"` // directory of Kubernetes objects
	StateDir  string `json:"stateDir"`  // block leases
	TLS       TLS    `json:"tls"`

	// source: kubernetes
	Kubernetes ClusterAPI `json:"kubernetes"`
}

// ClusterAPI is how the controller reaches the API server, and what it keeps there.
type ClusterAPI struct {
	Kubeconfig   string `json:"kubeconfig"`   // empty: the pod's service account
	APIServer    string `json:"apiServer"`    // https://host:port, instead of what the kubeconfig or the pod says; may be empty
	Namespace    string `json:"namespace"`    // of the Lease, the certificate authority, the agents' account
	LeaseName    string `json:"leaseName"`    // who holds it writes
	AgentAccount string `json:"agentAccount"` // the service account whose pods may enroll as nodes
}

// Listen is where the controller is reached, host:port.
type Listen struct {
	Southbound string `json:"southbound"` // agents, gRPC with mutual TLS
	API        string `json:"api"`        // people, plain HTTP, read only
}

// TLS names the PEM files of the controller's identity.
type TLS struct {
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// Networks are the addresses of the default virtual networks, and what all
// networks share.
type Networks struct {
	PodSubnets      []netip.Prefix `json:"podSubnets"`
	ServiceSubnets  []netip.Prefix `json:"serviceSubnets"`
	BlockSize4      int            `json:"blockSize4"` // prefix length of a node's block: 26 has 64 addresses
	BlockSize6      int            `json:"blockSize6"`
	BlockQuarantine Duration       `json:"blockQuarantine"` // how long a block that nobody uses, or whose node left, stays its own
	SharedServices  []string       `json:"sharedServices"`  // namespace/name: usable from every network
	PublicPool      *PoolName      `json:"publicPool"`      // of services that name none; may be missing
}

// PoolName is the fully qualified name of a floating IP pool, as annotations
// give it too.
type PoolName struct {
	Domain  string `json:"domain"`  // empty: default-domain
	Project string `json:"project"` // <cluster>-<namespace>, or the namespace alone
	Network string `json:"network"` // the external network it is a child of; may be empty
	Name    string `json:"name"`
}

// Duration is a time span as people write it: 90s, 15m, 1h30m.
type Duration struct{ time.Duration }

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

// MarshalText writes it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// LoadController reads the file, fills in defaults and checks every key.
func LoadController(file string) (*Controller, error) {
	v := defaultController()
	if err := loadYAML(file, v); err != nil {
		return nil, err
	}
	if err := v.check(file); err != nil {
		return nil, err
	}
	if v.Source == SourceKubernetes && v.Kubernetes.Namespace == "" {
		v.Kubernetes.Namespace = podNamespace()
	}
	return v, nil
}

// podNamespace is the namespace this runs in; outside of a pod, that of our manifests.
func podNamespace() string {
	text, _ := os.ReadFile(serviceAccount + "namespace") // there is none outside of a pod
	return cmp.Or(os.Getenv("POD_NAMESPACE"), strings.TrimSpace(string(text)), "vragent-system")
}

func defaultController() *Controller {
	return &Controller{
		Cluster:   "k8s",
		Source:    SourceManifests,
		Manifests: "/etc/vragent/manifests",
		Listen:    Listen{Southbound: "0.0.0.0:7443", API: "127.0.0.1:8082"},
		TLS: TLS{
			CA:   "/etc/vragent/ca.crt",
			Cert: "/etc/vragent/controller.crt",
			Key:  "/etc/vragent/controller.key",
		},
		Networks: Networks{
			PodSubnets:     []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12"), netip.MustParsePrefix("fd00:10:32::/64")},
			ServiceSubnets: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:10:96::/112")},
			BlockSize4:     26,
			BlockSize6:     122,

			BlockQuarantine: Duration{time.Hour},
			SharedServices:  []string{"default/kubernetes", "kube-system/kube-dns"},
		},
		Kubernetes: ClusterAPI{LeaseName: "vrcontroller", AgentAccount: "vragent"},
		StateDir:   "/var/lib/vrcontroller",
		Log:        Log{Level: "info", Format: "text"},
	}
}

// RFC 1123 label: the cluster's name becomes part of object names.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// objectRef is namespace/name of a Kubernetes object.
var objectRef = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

func (v *Controller) check(file string) error {
	c := &checks{file: file}
	c.name("cluster", v.Cluster)
	c.oneOf("source", v.Source, SourceManifests, SourceKubernetes)
	c.hostPort("listen.southbound", v.Listen.Southbound, false)
	c.hostPort("listen.api", v.Listen.API, false)
	v.Networks.check(c)
	v.Log.check(c)
	if v.Source == SourceKubernetes {
		v.Kubernetes.check(c)
		return c.err()
	}
	c.absolute("manifests", v.Manifests)
	c.absolute("stateDir", v.StateDir)
	c.absolute("tls.ca", v.TLS.CA)
	c.absolute("tls.cert", v.TLS.Cert)
	c.absolute("tls.key", v.TLS.Key)
	return c.err()
}

func (k ClusterAPI) check(c *checks) {
	if k.Kubeconfig != "" {
		c.absolute("kubernetes.kubeconfig", k.Kubeconfig)
	}
	if k.APIServer != "" {
		if u, err := url.Parse(k.APIServer); err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			c.fail("kubernetes.apiServer", fmt.Sprintf("%q is no address of an API server", k.APIServer), "for example https://192.0.2.1:6443")
		}
	}
	if k.Namespace != "" {
		c.name("kubernetes.namespace", k.Namespace)
	}
	c.name("kubernetes.leaseName", k.LeaseName)
	c.name("kubernetes.agentAccount", k.AgentAccount)
}

func (c *checks) name(key, v string) {
	if !label.MatchString(v) {
		c.fail(key, fmt.Sprintf("%q is not a name", v), "use small letters, digits and -, at most 63")
	}
}

func (n Networks) check(c *checks) {
	if len(n.PodSubnets) == 0 {
		c.fail("networks.podSubnets", "is empty", "give at least one subnet")
	}
	if len(n.ServiceSubnets) == 0 {
		c.fail("networks.serviceSubnets", "is empty", "give the API server's --service-cluster-ip-range")
	}
	seen := map[string]netip.Prefix{}
	c.subnets("networks.podSubnets", n.PodSubnets, seen)
	c.subnets("networks.serviceSubnets", n.ServiceSubnets, seen)
	// Larger blocks waste addresses, smaller ones have no room beside the host's own.
	c.within("networks.blockSize4", n.BlockSize4, 20, 30, "26 has 64 addresses")
	c.within("networks.blockSize6", n.BlockSize6, 116, 126, "122 has 64 addresses")
	for i, p := range n.PodSubnets {
		size := n.BlockSize4
		if p.Addr().Is6() {
			size = n.BlockSize6
		}
		if p.IsValid() && p.Bits() > size {
			c.fail(fmt.Sprintf("networks.podSubnets[%d]", i), fmt.Sprintf("%v is smaller than one block (/%d)", p, size), "widen it or make blocks smaller")
		}
	}
	if q := n.BlockQuarantine.Duration; q < time.Second || q > 30*24*time.Hour {
		c.fail("networks.blockQuarantine", fmt.Sprintf("%v is not between 1s and 720h", q), "1h outlasts a reboot")
	}
	for i, s := range n.SharedServices {
		if !objectRef.MatchString(s) {
			c.fail(fmt.Sprintf("networks.sharedServices[%d]", i), fmt.Sprintf("%q is not namespace/name", s), "for example kube-system/kube-dns")
		}
	}
	if p := n.PublicPool; p != nil {
		if p.Project == "" || p.Name == "" {
			c.fail("networks.publicPool", "does not name a pool", "write {project: k8s-default, network: public, name: pool}")
		}
	}
}
