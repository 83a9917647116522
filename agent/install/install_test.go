package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const conflist = `{"cniVersion":"1.1.0","name":"vrouter","plugins":[{"type":"vrouter"}]}`

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// node has an image's files and the host's folders, which are not there yet.
func node(t *testing.T) Files {
	t.Helper()
	image, host := t.TempDir(), t.TempDir()
	return Files{
		Plugin: write(t, image+"/vrouter", "plugin 1", 0o700), BinDir: host + "/opt/cni/bin",
		Conflist: write(t, image+"/10-vrouter.conflist", conflist, 0o600), ConfDir: host + "/etc/cni/net.d",
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestInstallAndUninstall(t *testing.T) {
	f := node(t)
	plugin, list := f.BinDir+"/vrouter", f.ConfDir+"/10-vrouter.conflist"
	r, err := f.Install()
	if err != nil || !slices.Equal(r.Changed, []string{plugin, list}) || r.Warning != "" {
		t.Fatalf("%+v %v", r, err)
	}
	if info, _ := os.Stat(plugin); info.Mode().Perm() != 0o755 {
		t.Errorf("plugin has mode %v", info.Mode())
	}
	if ok, sentence, _ := Check(f.BinDir, f.ConfDir); !ok {
		t.Error(sentence)
	}
	before, _ := os.Stat(plugin)
	if r, err := f.Install(); err != nil || len(r.Changed) != 0 {
		t.Errorf("again: %+v %v", r, err)
	}
	if after, _ := os.Stat(plugin); !os.SameFile(before, after) {
		t.Error("the plugin was replaced by itself")
	}
	// A newer one replaces one that runs.
	write(t, f.Plugin, "plugin 2", 0o700)
	if r, err := f.Install(); err != nil || !slices.Equal(r.Changed, []string{plugin}) {
		t.Errorf("newer: %+v %v", r, err)
	}
	if text, _ := os.ReadFile(plugin); string(text) != "plugin 2" {
		t.Errorf("plugin is %q", text)
	}
	if got := append(names(t, f.BinDir), names(t, f.ConfDir)...); !slices.Equal(got, []string{"vrouter", "10-vrouter.conflist"}) {
		t.Errorf("left: %v", got)
	}
	other := write(t, f.BinDir+"/bridge", "not ours", 0o755)
	if r, err := f.Uninstall(); err != nil || !slices.Equal(r.Changed, []string{list, plugin}) {
		t.Errorf("uninstall: %+v %v", r, err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	if r, err := f.Uninstall(); err != nil || len(r.Changed) != 0 {
		t.Errorf("again: %+v %v", r, err)
	}
}

// Whatever fails, the conflist is not there: it is what makes a node ready.
func TestConflistIsLast(t *testing.T) {
	for name, spoil := range map[string]func(f *Files){
		"no plugin":           func(f *Files) { f.Plugin = "/nowhere" },
		"no conflist":         func(f *Files) { f.Conflist = "/nowhere" },
		"a conflist not ours": func(f *Files) { write(t, f.Conflist, `{"name":"n","plugins":[{"type":"bridge"}]}`, 0o600) },
		"no folder for it":    func(f *Files) { write(t, f.BinDir, "a file", 0o600) },
	} {
		f := node(t)
		spoil(&f)
		if r, err := f.Install(); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
		if _, err := os.Stat(f.ConfDir); err == nil {
			t.Errorf("%s: %v is there", name, names(t, f.ConfDir))
		}
	}
}

func TestCheck(t *testing.T) {
	for want, spoil := range map[string]func(f Files){
		"does not exist, or is not to be seen from here": func(f Files) { _ = os.RemoveAll(f.ConfDir) },
		"has no CNI configuration":                       func(f Files) { _ = os.Remove(f.ConfDir + "/10-vrouter.conflist") },
		"the plugin is not":                              func(f Files) { _ = os.Remove(f.BinDir + "/vrouter") },
		"is not a program":                               func(f Files) { _ = os.Chmod(f.BinDir+"/vrouter", 0o644) },
		"05-other.conf, the first by name, which is not": func(f Files) { write(t, f.ConfDir+"/05-other.conf", `{"type":"bridge"}`, 0o644) },
		"10-vrouter.conflist is the first": func(f Files) {
			write(t, f.ConfDir+"/99-loopback.conf", `{}`, 0o644)
			write(t, f.ConfDir+"/00-notes.txt", "x", 0o644)
		},
	} {
		f := node(t)
		if _, err := f.Install(); err != nil {
			t.Fatal(err)
		}
		spoil(f)
		ok, sentence, fix := Check(f.BinDir, f.ConfDir)
		if !strings.Contains(sentence, want) || ok != strings.HasSuffix(want, "is the first") || ok != (fix == "") {
			t.Errorf("got %v %q (%s), want %q", ok, sentence, fix, want)
		}
	}
	f := node(t)
	write(t, f.ConfDir+"/05-other.conf", `{}`, 0o644)
	if r, err := f.Install(); err != nil || !strings.Contains(r.Warning, "05-other.conf sorts before 10-vrouter.conflist") {
		t.Errorf("%+v %v", r, err)
	}
}
