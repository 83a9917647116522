package conf

import (
	"fmt"
	"net/netip"
	"regexp"
)

// ControllerFile is where vrcontroller looks for its configuration.
const ControllerFile = "/etc/vragent/vrcontroller.yaml"

// Controller configures vrcontroller.
type Controller struct {
	Cluster   string   `json:"cluster"`   // prefix of the names of virtual networks
	Manifests string   `json:"manifests"` // directory of Kubernetes objects
	Listen    Listen   `json:"listen"`
	TLS       TLS      `json:"tls"`
	Networks  Networks `json:"networks"`
	StateDir  string   `json:"stateDir"` // block leases
	Log       Log      `json:"log"`
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

// Networks are the addresses of the default virtual networks.
type Networks struct {
	PodSubnets     []netip.Prefix `json:"podSubnets"`
	ServiceSubnets []netip.Prefix `json:"serviceSubnets"`
	BlockSize4     int            `json:"blockSize4"` // prefix length of a node's block: 26 has 64 addresses
	BlockSize6     int            `json:"blockSize6"`
}

// LoadController reads the file, fills in defaults and checks every key.
func LoadController(file string) (*Controller, error) {
	v := defaultController()
	if err := loadYAML(file, v); err != nil {
		return nil, err
	}
	if err := v.check(file); err != nil {
		return nil, err
	}
	return v, nil
}

func defaultController() *Controller {
	return &Controller{
		Cluster:   "k8s",
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
		},
		StateDir: "/var/lib/vrcontroller",
		Log:      Log{Level: "info", Format: "text"},
	}
}

// RFC 1123 label: the cluster's name becomes part of object names.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (v *Controller) check(file string) error {
	c := &checks{file: file}
	if !label.MatchString(v.Cluster) {
		c.fail("cluster", fmt.Sprintf("%q is not a name", v.Cluster), "use small letters, digits and -, at most 63")
	}
	c.absolute("manifests", v.Manifests)
	c.hostPort("listen.southbound", v.Listen.Southbound, false)
	c.hostPort("listen.api", v.Listen.API, false)
	c.absolute("tls.ca", v.TLS.CA)
	c.absolute("tls.cert", v.TLS.Cert)
	c.absolute("tls.key", v.TLS.Key)
	v.Networks.check(c)
	c.absolute("stateDir", v.StateDir)
	v.Log.check(c)
	return c.err()
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
}
