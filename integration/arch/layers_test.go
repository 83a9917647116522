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
	{"leaves", []string{"ipam", "conf", "fastpath/packet", "fastpath/frame", "fastpath/ring", "fastpath/control/wire"}},
	{"nouns", []string{"fastpath/table", "fastpath/flow", "fastpath/link"}},
	{"contracts", []string{"agent/rpc", "fastpath/control", "controller/southbound"}},
	{"pure", []string{"agent/compile", "agent/state", "controller/plan", "fastpath/forward"}},
	{"edges", []string{
		"plugin/netns", "plugin/call", "plugin/verbs",
		"agent/ledger", "agent/serve", "agent/dial", "agent/kernel", "agent/cli",
		"fastpath/link/mem", "fastpath/link/xsk", "fastpath/link/steer", "fastpath/engine",
		"controller/watch", "controller/hub", "controller/api", "controller/certs", "controller/cli",
		"controller/converge", "controller/lease",
	}},
	{"programs", []string{"plugin", "agent", "controller"}},
	{"tests", []string{"integration"}},
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
			if h > height || h == height && !below(own, home) && !below(f.dir, there) {
				r.broken(t, at, "%s (%s) imports %s (%s): imports point down", f.dir, layers[height].name, own, layerName(h))
			}
		})
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
