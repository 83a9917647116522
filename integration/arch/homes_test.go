package arch

import (
	"go/token"
	"slices"
	"strings"
	"testing"
)

// homes names, for every library, the only folders that may import it.
var homes = map[string][]string{
	"github.com/cilium/ebpf":                 {"fastpath/link/xsk", "fastpath/link/steer", "fastpath/link/fabric", "integration/bench/load"},
	"unsafe":                                 {"fastpath/link/xsk", "fastpath/link/poll", "fastpath/link/steer", "fastpath/link/tap", "fastpath/flow", "fastpath/frame", "integration/bench/load"},
	"github.com/vishvananda/netlink":         {"agent/kernel", "plugin", "fastpath/link/steer/clsact"},
	"github.com/vishvananda/netns":           {"agent/kernel", "plugin"},
	"github.com/coreos/go-iptables":          {"agent/kernel"},
	"github.com/safchain/ethtool":            {"agent/kernel"},
	"github.com/containernetworking/cni":     {"plugin", "integration"},
	"github.com/containernetworking/plugins": {"plugin", "integration"},
	"go.etcd.io/bbolt":                       {"agent/ledger"},
	"google.golang.org/grpc":                 {"controller/hub", "agent/dial", "controller/southbound"},
	"google.golang.org/protobuf":             {"controller/hub", "controller/plan", "agent/dial", "controller/southbound"},
	"github.com/urfave/cli":                  {"agent", "controller"},
	"github.com/gaissmai/bart":               {"controller/plan"},
	"k8s.io/api":                             {"controller/watch", "controller/write"},
	"k8s.io/apimachinery":                    {"controller/watch", "controller/write", "conf/v1alpha1"},
	"k8s.io/client-go":                       {"controller/watch/kube", "controller/write"},
	"github.com/google/go-containerregistry": {"packaging/pack"},
	"k8s.io/klog":                            {"controller/watch/kube", "controller/write"},
	"github.com/fsnotify/fsnotify":           {"controller/watch"},
	"sigs.k8s.io/yaml":                       {"conf", "controller/watch", "agent/cli", "controller/cli"},
	"sigs.k8s.io/json":                       {"controller/watch"},
	"golang.org/x/sys":                       {"fastpath", "agent/kernel", "plugin", "agent", "controller/watch/kube/apitest", "integration/bench/load", "integration/scale"},
	"golang.org/x/sync":                      {"agent", "controller", "fastpath/engine"},
}

// inTests may be imported by any test beside the homes: namespaces and links are
// what tests are made of, and bart says what our own table of routes must.
var inTests = []string{
	"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "github.com/containernetworking",
	"github.com/google/go-cmp", "golang.org/x/sys", "unsafe", "google.golang.org/grpc", "google.golang.org/protobuf",
	"k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go", "github.com/gaissmai/bart",
}

func TestLibrariesHaveOneHome(t *testing.T) {
	r, files := source(t)
	for _, f := range files {
		f.imports(func(at token.Pos, own, path string) {
			if own != "" || path != "unsafe" && !strings.Contains(path, ".") {
				return // ours, or of the standard library
			}
			if f.test && slices.ContainsFunc(inTests, func(l string) bool { return below(path, l) }) {
				return
			}
			library, dirs := homeOf(path)
			switch {
			case library == "":
				r.broken(t, at, "library %s has no home; choose one in integration/arch/homes_test.go", path)
			case !slices.ContainsFunc(dirs, func(d string) bool { return below(f.dir, d) }):
				r.broken(t, at, "%s imports %s, whose home is %s", f.dir, path, strings.Join(dirs, ", "))
			}
		})
	}
}

func homeOf(path string) (library string, dirs []string) {
	for l, d := range homes {
		if below(path, l) && len(l) > len(library) {
			library, dirs = l, d
		}
	}
	return library, dirs
}
