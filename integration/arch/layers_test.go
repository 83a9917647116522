package arch

import (
	"go/token"
	"slices"
	"testing"
)

// layers lists the folders of each layer, lowest first. A package belongs to the
// longest folder that holds it, and imports only packages of lower layers, or
// of its own folder's tree (agent/cli → agent/cli/show).
var layers = []struct {
	name string
	dirs []string
}{
	{"leaves", []string{"ipam", "conf", "fastpath/packet", "fastpath/frame", "fastpath/ring", "fastpath/timeslice", "fastpath/control/wire"}},
	{"nouns", []string{"fastpath/table", "fastpath/flow", "fastpath/link", "fastpath/offload", "agent/record"}},
	{"contracts", []string{"agent/rpc", "fastpath/control", "controller/southbound"}},
	{"pure", []string{"agent/compile", "agent/state", "controller/plan", "controller/audit", "fastpath/forward"}},
	{"edges", []string{
		"plugin/veth", "plugin/verbs",
		"agent/ledger", "agent/serve", "agent/dial", "agent/enroll", "agent/install", "agent/kernel", "agent/health",
		"fastpath/link/mem", "fastpath/link/poll", "fastpath/link/tap", "fastpath/link/xsk", "fastpath/link/fabric", "fastpath/link/steer",
		"controller/watch", "controller/hub", "controller/api", "controller/certs",
		"controller/converge", "controller/lease", "controller/write",
	}},
	{"wiring", []string{"fastpath/engine", "agent/loop", "agent/cli", "controller/cli"}},
	{"programs", []string{"plugin", "agent", "controller", "packaging/pack"}},
	{"tests", []string{"integration"}},
}

// neighbours are the imports within a layer that are meant, with the reason.
var neighbours = map[[2]string]string{
	{"agent/record", "fastpath/table"}:             "an attachment holds labels and ids by their types",
	{"agent/state", "agent/compile"}:               "the node's state is what compile reads; it keeps compile's ids",
	{"agent/kernel", "fastpath/link/steer"}:        "the punt link's names and sizes are steering's",
	{"fastpath/flow", "fastpath/table"}:            "an entry names a label and a next hop by their types",
	{"fastpath/frame", "fastpath/ring"}:            "a foreign chunk goes home over a ring",
	{"fastpath/link/steer", "fastpath/link/xsk"}:   "sockets are put into the steering map",
	{"fastpath/link/fabric", "fastpath/link/xsk"}:  "it binds the sockets",
	{"controller/audit", "controller/plan"}:        "an audit holds the last plan's model against what others say",
	{"controller/audit", "controller/plan/blocks"}: "and the leases, by address",
	{"plugin/verbs", "plugin/veth"}:                "the verbs build and remove the pair",
}

// realms say which parts of the repository a part may see at all, beside itself.
var realms = map[string][]string{
	"fastpath":   {},
	"ipam":       {},
	"conf":       {},
	"plugin":     {"agent/rpc", "conf", "fastpath/control/wire", "fastpath/table"},
	"agent":      {"fastpath", "controller/southbound", "ipam", "conf"},
	"controller": {"ipam", "conf"},
}

// layerOf returns the height of a package's layer and the folder that put it there.
func layerOf(dir string) (height int, home string) {
	height = -1
	for i, l := range layers {
		for _, d := range l.dirs {
			if below(dir, d) && len(d) > len(home) {
				height, home = i, d
			}
		}
	}
	return height, home
}

func TestImportsPointDown(t *testing.T) {
	r, files := source(t)
	for _, f := range files {
		height, home := layerOf(f.dir)
		if height < 0 {
			r.broken(t, f.syntax.Package, "package %s has no layer; give it one in integration/arch/layers_test.go", f.dir)
			continue
		}
		if f.test {
			continue // a test may use a builder or a fake of any layer
		}
		f.imports(func(at token.Pos, own, _ string) {
			if own == "" {
				return
			}
			h, there := layerOf(own)
			meant := neighbours[[2]string{f.dir, own}] != "" || below(own, home) || below(f.dir, there)
			if h > height || h == height && !meant {
				r.broken(t, at, "%s (%s) imports %s (%s): imports point down", f.dir, layers[height].name, own, layerName(h))
			}
		})
	}
}

// TestLayersExist keeps the list above true.
func TestLayersExist(t *testing.T) {
	_, files := source(t)
	exists := map[string]bool{}
	for _, f := range files {
		exists[f.dir] = true
	}
	for _, l := range layers {
		for _, dir := range l.dirs {
			if !exists[dir] {
				t.Errorf("integration/arch/layers_test.go: %s is listed in %s and is no package", dir, l.name)
			}
		}
	}
}

func TestRealmsStayApart(t *testing.T) {
	r, files := source(t)
	for _, f := range files {
		for realm, sees := range realms {
			if !below(f.dir, realm) || f.test {
				continue
			}
			f.imports(func(at token.Pos, own, _ string) {
				seen := own == "" || below(own, realm) || slices.ContainsFunc(sees, func(s string) bool { return below(own, s) })
				if !seen {
					r.broken(t, at, "%s imports %s: of the rest of the repository, %s sees only %v", f.dir, own, realm, sees)
				}
			})
		}
	}
}

func layerName(height int) string {
	if height < 0 {
		return "no layer"
	}
	return layers[height].name
}
