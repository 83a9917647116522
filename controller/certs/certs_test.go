package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func request(dir string) Request {
	return Request{Dir: dir, Addresses: []string{"192.0.2.10", "controller.example"}, Nodes: []string{"n1", "n2"}}
}

func load(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	raw, err := readPEM(filepath.Join(dir, name+".crt"), "CERTIFICATE")
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func made(results []Result) []string {
	var out []string
	for _, r := range results {
		if r.Made {
			out = append(out, filepath.Base(r.File))
		}
	}
	return out
}

func TestCertificatesServeTheirPurposeOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := Make(request(dir), now); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(load(t, dir, "ca"))
	verify := func(name string, use x509.ExtKeyUsage, at time.Time) error {
		_, err := load(t, dir, name).Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}, CurrentTime: at})
		return err
	}
	for _, name := range []string{"n1", "n2"} {
		if err := verify(name, x509.ExtKeyUsageClientAuth, now); err != nil {
			t.Error(err)
		}
		if verify(name, x509.ExtKeyUsageServerAuth, now) == nil {
			t.Error(name, "may pose as the controller")
		}
		if c := load(t, dir, name); c.Subject.CommonName != name || c.IsCA {
			t.Error(c.Subject)
		}
	}
	if err := verify("controller", x509.ExtKeyUsageServerAuth, now.Add(-30*time.Minute)); err != nil {
		t.Error("a clock that is behind:", err)
	}
	if verify("controller", x509.ExtKeyUsageClientAuth, now) == nil {
		t.Error("the controller may pose as a node")
	}
	for _, host := range []string{"192.0.2.10", "controller.example"} {
		if err := load(t, dir, "controller").VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if k, ok := load(t, dir, "ca").PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		t.Error("not a P-256 key")
	}
	for _, name := range []string{"ca.key", "controller.key", "n1.key", "n2.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(name, info.Mode(), err)
		}
	}
}

func TestWhatIsThereStays(t *testing.T) {
	dir := t.TempDir()
	r := request(dir)
	first, err := Make(r, now)
	if err != nil || len(made(first)) != 4 {
		t.Fatal(first, err)
	}
	ca := load(t, dir, "ca").SerialNumber
	for _, step := range []struct {
		name   string
		change func()
		want   []string
	}{
		{"again", func() {}, nil},
		{"another node", func() { r.Nodes = append(r.Nodes, "n3") }, []string{"n3.crt"}},
		{"fewer addresses", func() { r.Addresses = r.Addresses[:1] }, nil},
		{"another address", func() { r.Addresses = append(r.Addresses, "192.0.2.11") }, []string{"controller.crt"}},
		{"a lost key", func() { _ = os.Remove(filepath.Join(dir, "n1.key")) }, []string{"n1.crt"}},
		{"only a node", func() { r.Addresses = nil; r.Nodes = []string{"n1"} }, nil},
		{"renewal", func() { r.Renew = true }, []string{"n1.crt"}},
		{"expired", func() { r.Renew = false; now = now.Add(leafLife + day) }, []string{"n1.crt"}},
	} {
		step.change()
		results, err := Make(r, now)
		if err != nil || !slices.Equal(made(results), step.want) {
			t.Errorf("%s: %v %v", step.name, made(results), err)
		}
	}
	if load(t, dir, "ca").SerialNumber.Cmp(ca) != 0 {
		t.Error("the authority was replaced")
	}
}

func TestAuthoritiesThatCannotBeUsed(t *testing.T) {
	for name, x := range map[string]struct {
		spoil func(dir string)
		want  string
	}{
		"no key":         {func(d string) { _ = os.Remove(filepath.Join(d, "ca.key")) }, "only one of"},
		"no certificate": {func(d string) { _ = os.Remove(filepath.Join(d, "ca.crt")) }, "only one of"},
		"another key":    {func(d string) { _ = os.Rename(filepath.Join(d, "n1.key"), filepath.Join(d, "ca.key")) }, "is not the key of"},
		"no authority": {func(d string) {
			_ = os.Rename(filepath.Join(d, "n1.key"), filepath.Join(d, "ca.key"))
			_ = os.Rename(filepath.Join(d, "n1.crt"), filepath.Join(d, "ca.crt"))
		}, "no certificate authority"},
		"garbage": {func(d string) { _ = os.WriteFile(filepath.Join(d, "ca.crt"), []byte("x"), 0o644) }, "holds no CERTIFICATE"},
	} {
		dir := t.TempDir()
		if _, err := Make(request(dir), now); err != nil {
			t.Fatal(err)
		}
		x.spoil(dir)
		before, _ := os.ReadFile(filepath.Join(dir, "ca.crt"))
		if _, err := Make(request(dir), now); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(filepath.Join(dir, "ca.crt")); string(after) != string(before) {
			t.Errorf("%s: the authority was changed", name)
		}
	}
}

func TestNodeNames(t *testing.T) {
	for _, bad := range []string{"", "ca", "controller", "../n1", "a/b"} {
		if _, err := Make(Request{Dir: t.TempDir(), Nodes: []string{bad}}, now); err == nil {
			t.Errorf("%q", bad)
		}
	}
}
