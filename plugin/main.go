// Command vrouter is the CNI plugin: a container runtime executes it for every
// pod that comes or goes. It keeps no state; the agent (vragent run) owns
// addresses and identities. It does not forward packets or outlive its call.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/vragent/vragent/plugin/verbs"
)

func main() {
	skel.PluginMainFuncs(verbs.Funcs(), version.PluginSupports("0.4.0", "1.0.0", "1.1.0"),
		"vrouter connects pods to the virtual networks of vragent")
}
