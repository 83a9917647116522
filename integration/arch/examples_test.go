package arch

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/watch"
)

// TestExamplesLoad reads every file of conf/examples as the programs would.
func TestExamplesLoad(t *testing.T) {
	dir := filepath.Join("..", "..", "conf", "examples")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch e.Name() {
		case "vragent.yaml":
			_, err = conf.LoadAgent(path)
		case "vrcontroller.yaml":
			_, err = conf.LoadController(path)
		case "10-vrouter.conflist":
			var text []byte
			if text, err = os.ReadFile(path); err == nil {
				err = conf.CheckCNIList(path, text)
			}
		case "demo":
			planManifests(t, path)
		default:
			t.Errorf("conf/examples/%s: nobody reads it here; add it to integration/arch/examples_test.go", e.Name())
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// planManifests plans a folder of manifests and wants no complaint.
func planManifests(t *testing.T, dir string) {
	t.Helper()
	cluster, problems := watch.Read(dir)
	if cluster == nil {
		t.Fatalf("%s: %v", dir, problems)
	}
	out := plan.Build(plan.Input{Cluster: cluster, Config: plan.Config{
		Cluster:        "k8s",
		PodSubnets:     []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")},
		ServiceSubnets: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
		BlockBits4:     26,
	}})
	for _, p := range append(problems, out.Model.Problems...) {
		t.Errorf("%s: %s: %s", dir, p.Object, p.Sentence)
	}
}
