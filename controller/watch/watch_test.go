package watch

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/controller/plan"
)

const (
	podText = `apiVersion: v1
kind: Pod
metadata: {namespace: demo, name: web}
spec: {nodeName: n1, containers: [{name: c, image: example.com/c}]}
`
	serviceText = `apiVersion: v1
kind: Service
metadata: {namespace: demo, name: web}
spec:
  clusterIP: 203.0.113.10
  ports: [{name: http, port: 80}]
`
)

func place(t *testing.T, dir, name, text string) {
	t.Helper()
	next := filepath.Join(dir, ".new") // atomic replacement, as editors and kubelet do
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func follow(t *testing.T, dir string) *Directory {
	t.Helper()
	d := New(dir, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return d
}

// eventually waits for a change that makes the condition true.
func eventually(t *testing.T, d *Directory, what string, ok func() bool) {
	t.Helper()
	end := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-d.Changes():
		case <-end:
			t.Fatalf("not in time: %s; problems %v", what, d.Problems())
		}
	}
}

func pods(d *Directory) int {
	if c := d.Cluster(); c != nil {
		return len(c.Pods)
	}
	return -1
}

func TestFollowsTheDirectory(t *testing.T) {
	dir := t.TempDir()
	place(t, dir, "a.yaml", podText)
	place(t, dir, "README.md", "not ours")
	d := follow(t, dir)
	eventually(t, d, "the first content", func() bool { return pods(d) == 1 })
	place(t, dir, "b.yaml", strings.ReplaceAll(podText, "web", "other"))
	eventually(t, d, "another file", func() bool { return pods(d) == 2 })
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	eventually(t, d, "a removed file", func() bool { return pods(d) == 1 })
	if d.Cluster().Pods[0].Name != "other" || len(d.Problems()) != 0 {
		t.Error(d.Cluster().Pods, d.Problems())
	}
}

func TestABrokenFileKeepsItsLastGoodContent(t *testing.T) {
	dir := t.TempDir()
	place(t, dir, "a.yaml", podText)
	d := follow(t, dir)
	eventually(t, d, "the first content", func() bool { return pods(d) == 1 })
	for _, broken := range []string{podText + "---\nkind: [", "", "# only a comment\n", strings.Replace(podText, "nodeName", "nodename", 1)} {
		place(t, dir, "a.yaml", broken)
		eventually(t, d, "the problem", func() bool { return len(d.Problems()) == 1 })
		if p := d.Problems()[0]; p.Object != "Manifest a.yaml" || !strings.HasSuffix(p.Sentence, "its last good content stays in force") || pods(d) != 1 {
			t.Errorf("%q: %v", broken, p)
		}
		place(t, dir, "b.yaml", strings.ReplaceAll(podText, "web", "other"))
		eventually(t, d, "the other file", func() bool { return pods(d) == 2 })
		place(t, dir, "a.yaml", podText+"# mended\n")
		eventually(t, d, "no problem", func() bool { return len(d.Problems()) == 0 && pods(d) == 2 })
		if err := os.Remove(filepath.Join(dir, "b.yaml")); err != nil {
			t.Fatal(err)
		}
		eventually(t, d, "the other file gone", func() bool { return pods(d) == 1 })
	}
}

func TestNothingIsKnownUntilEveryFileIsGood(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	d := follow(t, dir)
	eventually(t, d, "the missing directory", func() bool { return len(d.Problems()) == 1 })
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	place(t, dir, "a.yaml", podText)
	place(t, dir, "b.yaml", "kind: Pod\n")
	eventually(t, d, "the broken file", func() bool { return len(d.Problems()) == 1 && strings.Contains(d.Problems()[0].Object, "b.yaml") })
	if d.Cluster() != nil {
		t.Error("half of the cluster is shown:", d.Cluster())
	}
	place(t, dir, "b.yaml", serviceText)
	eventually(t, d, "the whole", func() bool { return d.Cluster() != nil && len(d.Cluster().Services) == 1 && pods(d) == 1 })

	// Later a new broken file takes nothing away, nor does a directory that vanishes.
	place(t, dir, "c.yaml", "nonsense")
	eventually(t, d, "the problem", func() bool { return len(d.Problems()) == 1 })
	if pods(d) != 1 {
		t.Error(d.Cluster())
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	eventually(t, d, "the vanished directory", func() bool {
		return len(d.Problems()) == 1 && strings.HasPrefix(d.Problems()[0].Object, "Manifests ")
	})
	if pods(d) != 1 {
		t.Error(d.Cluster())
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, d, "the directory again", func() bool { return len(d.Problems()) == 1 && d.Problems()[0].Object == "Manifest c.yaml" })
}

// A mounted ConfigMap changes by one link that is replaced.
func TestLinksAreFollowed(t *testing.T) {
	dir := t.TempDir()
	for i, text := range []string{podText, podText + "---\n" + serviceText} {
		version := filepath.Join(dir, "..v"+string(rune('0'+i)))
		if err := os.Mkdir(version, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(version, "a.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(v string) {
		if err := os.Symlink(v, filepath.Join(dir, "..next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link("..v0")
	if err := os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	d := follow(t, dir)
	eventually(t, d, "the first version", func() bool { return pods(d) == 1 })
	link("..v1")
	eventually(t, d, "the second version", func() bool { return len(d.Cluster().Services) == 1 })
}

func TestDoubleDefinitions(t *testing.T) {
	dir := t.TempDir()
	place(t, dir, "a.yaml", podText)
	place(t, dir, "b.yaml", strings.Replace(podText, "n1", "n2", 1))
	place(t, dir, "c.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x, uid: u}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: z, uid: u}\n")
	c, problems := Read(dir)
	if len(c.Pods) != 2 || c.Pods[0].Node != "n1" || c.Pods[1].Name != "x" {
		t.Error(c.Pods)
	}
	want := []plan.Problem{
		{Object: "Pod default/z", Sentence: "in c.yaml has the UID of Pod default/x, u; it is left out"},
		{Object: "Pod demo/web", Sentence: "is in a.yaml and again in b.yaml; the first one counts"},
	}
	if !slices.Equal(problems, want) {
		t.Errorf("%q", problems)
	}
}

// An object without a creation time is as old as the file it was first seen
// in, and stays so while it is known: a newcomer cannot become the older one.
func TestAgeOfObjectsWithoutCreationTime(t *testing.T) {
	dir := t.TempDir()
	d := New(dir, slog.New(slog.DiscardHandler))
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	age := func(name string, at time.Time) {
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	place(t, dir, "web.yaml", serviceText)
	age("web.yaml", old)
	d.refresh()
	place(t, dir, "web.yaml", serviceText+"---\n"+strings.ReplaceAll(serviceText, "web", "aaa"))
	d.refresh()
	created := map[string]time.Time{}
	for _, s := range d.Cluster().Services {
		created[s.Name] = s.Created
	}
	if !created["web"].Equal(old) || !created["aaa"].After(old) {
		t.Error(created)
	}
	place(t, dir, "other.yaml", strings.Replace(serviceText, "name: web}", "name: stated, creationTimestamp: \"2020-01-02T03:04:05Z\"}", 1))
	d.refresh()
	if s := d.Cluster().Services[0]; s.Name != "stated" || s.Created.Year() != 2020 {
		t.Error(s)
	}
}
