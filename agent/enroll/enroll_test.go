package enroll

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vragent/vragent/conf"
)

// cluster is an API server with what the controllers put there, and controllers
// that sign.
type cluster struct {
	t      *testing.T
	dir    string // of tokens and the API's authority
	server *httptest.Server

	mu      sync.Mutex
	status  int // of every answer; 0: the object
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	caPEM   string
	slices  []map[string]any
	version int
	moved   chan struct{} // ends watches
	life    time.Duration // of certificates
	refuse  error         // to sign
	signed  []string      // address of each signer
	gets    int
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), moved: make(chan struct{}), life: time.Hour}
	c.newAuthority()
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(c.answer))
	c.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	c.server.StartTLS()
	t.Cleanup(func() { c.server.CloseClientConnections(); c.server.Close() })
	c.write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.server.Certificate().Raw})))
	c.write("token", "api-1")
	c.write("enroll", "enroll-1\n")
	c.endpoints(controller("192.0.2.1"))
	return c
}

func (c *cluster) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// newAuthority makes a new one, as if the Secret had been deleted.
func (c *cluster) newAuthority() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "vragent"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key = key
	c.ca, _ = x509.ParseCertificate(raw)
	c.caPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

// change changes what the cluster says, and tells those who watch.
func (c *cluster) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.version++
	close(c.moved)
	c.moved = make(chan struct{})
}

func (c *cluster) endpoints(slice ...map[string]any) { c.change(func() { c.slices = slice }) }

func (c *cluster) answer(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	status, ca, list, moved, version := c.status, c.caPEM, c.slices, c.moved, fmt.Sprint(c.version)
	c.gets++
	c.mu.Unlock()
	token, _ := os.ReadFile(filepath.Join(c.dir, "token"))
	switch {
	case r.Header.Get("Authorization") != "Bearer "+string(token):
		w.WriteHeader(http.StatusUnauthorized)
	case status != 0:
		w.WriteHeader(status)
		fmt.Fprint(w, "no")
	case r.URL.Query().Get("watch") != "":
		w.(http.Flusher).Flush()
		if r.URL.Query().Get("resourceVersion") == version {
			select {
			case <-moved:
			case <-r.Context().Done():
			}
		}
		fmt.Fprintln(w, `{"type":"MODIFIED"}`)
	case r.URL.Path == "/api/v1/namespaces/vr/configmaps/vragent-ca":
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{"ca.crt": ca}})
	case r.URL.Path == "/apis/discovery.k8s.io/v1/namespaces/vr/endpointslices" && r.URL.Query().Get("labelSelector") == "kubernetes.io/service-name=vrcontroller":
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"resourceVersion": version}, "items": list})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// controller is a slice with endpoints that are ready.
func controller(addresses ...string) map[string]any {
	return slice("IPv4", map[string]any{}, addresses...)
}

func slice(family string, conditions map[string]any, addresses ...string) map[string]any {
	var list []map[string]any
	for _, a := range addresses {
		list = append(list, map[string]any{"addresses": []string{a}, "conditions": conditions})
	}
	return map[string]any{"addressType": family, "endpoints": list, "ports": []map[string]any{{"name": "api", "port": 8082}, {"name": "southbound", "port": 7443}}}
}

func (c *cluster) sign(_ context.Context, address string, t *tls.Config, token string, csr []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return nil, c.refuse
	}
	if want, _ := os.ReadFile(filepath.Join(c.dir, "enroll")); token != strings.TrimSpace(string(want)) || t.ServerName != ServerName || t.RootCAs == nil {
		return nil, fmt.Errorf("token %q, TLS %+v", token, t)
	}
	q, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: q.Subject, NotBefore: time.Now(), NotAfter: time.Now().Add(c.life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, c.ca, q.PublicKey, c.key)
	c.signed = append(c.signed, address)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), err
}

// keeper of a node; Run is the caller's.
func (c *cluster) keeper(stateDir string) *Keeper {
	return New(Config{
		Node: "n1", StateDir: stateDir, Sign: c.sign, Log: slog.New(slog.DiscardHandler),
		Kubernetes: conf.Kubernetes{APIServer: c.server.URL, Namespace: "vr", TokenFile: filepath.Join(c.dir, "token"),
			CAFile: filepath.Join(c.dir, "ca.crt"), EnrollTokenFile: filepath.Join(c.dir, "enroll")},
	})
}

// run runs a keeper until the test, or the returned function, ends it.
func run(t *testing.T, k *Keeper) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = k.Run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (k *Keeper) at(addresses ...string) func() bool {
	return func() bool { return slices.Equal(k.Addresses(), addresses) }
}

func leaf(t *testing.T, k *Keeper) *x509.Certificate {
	t.Helper()
	c, err := k.TLS("any")
	if err != nil {
		t.Fatal(err)
	}
	return c.Certificates[0].Leaf
}

func TestEnroll(t *testing.T) {
	c, dir := newCluster(t), filepath.Join(t.TempDir(), "state")
	k := c.keeper(dir)
	if _, err := k.TLS("any"); err == nil || k.Addresses() != nil {
		t.Errorf("before: %v %v", err, k.Addresses())
	}
	if ok, sentence := k.State(time.Now()); ok || sentence != "this node enrolls" {
		t.Error(sentence)
	}
	stop := run(t, k)
	eventually(t, "enrolled", k.at("192.0.2.1:7443"))
	<-k.Changed()
	tlsConfig, err := k.TLS("any")
	if err != nil || tlsConfig.ServerName != "vrcontroller" || leaf(t, k).Subject.CommonName != "n1" {
		t.Errorf("%+v %v", tlsConfig, err)
	}
	if ok, sentence := k.State(time.Now()); !ok || !strings.Contains(sentence, "certificate valid until 20") {
		t.Error(sentence)
	}
	// Scaled up: the watch says so at once.
	c.endpoints(controller("192.0.2.2", "192.0.2.1"))
	eventually(t, "the second one", k.at("192.0.2.1:7443", "192.0.2.2:7443"))
	stop()
	if info, err := os.Stat(filepath.Join(dir, "enrollment.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v %v", info, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left: %v", files)
	}
	// All away: the next agent knows everything.
	serial := leaf(t, k).SerialNumber
	c.server.CloseClientConnections()
	c.server.Close()
	k = c.keeper(dir)
	if !k.at("192.0.2.1:7443", "192.0.2.2:7443")() || leaf(t, k).SerialNumber.Cmp(serial) != 0 {
		t.Errorf("after a restart: %v", k.Addresses())
	}
	run(t, k)
	eventually(t, "it says why", func() bool {
		ok, sentence := k.State(time.Now())
		return ok && strings.Contains(sentence, "serves meanwhile: the API server "+c.server.URL+" does not answer: ")
	})
}

func TestRenewal(t *testing.T) {
	c := newCluster(t)
	c.life = 6 * time.Second
	k := c.keeper(t.TempDir())
	run(t, k)
	eventually(t, "enrolled", k.at("192.0.2.1:7443"))
	first := leaf(t, k)
	eventually(t, "renewed", func() bool { return leaf(t, k).SerialNumber.Cmp(first.SerialNumber) != 0 })
	if now := time.Now(); now.Before(renewal(first)) || now.After(first.NotAfter) {
		t.Errorf("renewed at %v; the first one lived from %v to %v", now, first.NotBefore, first.NotAfter)
	}
	if slices.Equal(first.RawSubjectPublicKeyInfo, leaf(t, k).RawSubjectPublicKeyInfo) {
		t.Error("the key is the same")
	}
	c.change(func() { c.refuse = errors.New("the token is not of this node") })
	eventually(t, "not renewed", func() bool {
		ok, sentence := k.State(time.Now())
		return !ok && strings.Contains(sentence, "is not renewed: controller 192.0.2.1:7443 does not enroll node n1: the token is not of this node")
	})
	if ok, sentence := k.State(time.Now().Add(time.Minute)); ok || !strings.Contains(sentence, "has expired on") {
		t.Error(sentence)
	}
}

// Another authority makes another certificate; tokens are read each time.
func TestNewAuthorityAndTokens(t *testing.T) {
	c := newCluster(t)
	k := c.keeper(t.TempDir())
	run(t, k)
	eventually(t, "enrolled", k.at("192.0.2.1:7443"))
	old := leaf(t, k)
	c.write("token", "api-2")
	c.write("enroll", "enroll-2")
	c.newAuthority()
	c.endpoints(controller("192.0.2.1"))
	eventually(t, "signed by the new one", func() bool { return leaf(t, k).CheckSignatureFrom(c.ca) == nil })
	if old.CheckSignatureFrom(c.ca) == nil {
		t.Error("the authority is the old one")
	}
}

// Every fault is a sentence with object, cause and fix.
func TestFaults(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(c *cluster, cfg *conf.Kubernetes)
		want  string
	}{
		"no token":       {func(c *cluster, cfg *conf.Kubernetes) { cfg.TokenFile = "/nowhere" }, "token of the service account: open /nowhere: no such file or directory (kubernetes.tokenFile)"},
		"old token":      {func(c *cluster, cfg *conf.Kubernetes) { cfg.TokenFile = cfg.EnrollTokenFile }, "the API server refuses the token in "},
		"no rights":      {func(c *cluster, _ *conf.Kubernetes) { c.status = 403 }, "the service account may not read ConfigMap vr/vragent-ca (apply the manifest's Role"},
		"server trouble": {func(c *cluster, _ *conf.Kubernetes) { c.status = 500 }, "the API server answers 500 Internal Server Error: no"},
		"no ConfigMap":   {func(c *cluster, cfg *conf.Kubernetes) { cfg.Namespace = "other" }, "ConfigMap other/vragent-ca does not exist (are the controllers installed, and in namespace other?)"},
		"no ca.crt":      {func(c *cluster, _ *conf.Kubernetes) { c.caPEM = "" }, "ConfigMap vr/vragent-ca has no ca.crt (delete it"},
		"garbage in it":  {func(c *cluster, _ *conf.Kubernetes) { c.caPEM = "x" }, "ConfigMap vr/vragent-ca: ca.crt has no certificate in it"},
		"no endpoints":   {func(c *cluster, _ *conf.Kubernetes) { c.slices = nil }, "Service vr/vrcontroller has no endpoint that is ready, with a port named southbound (do the controllers run?"},
		"not ready": {func(c *cluster, _ *conf.Kubernetes) {
			c.slices = []map[string]any{slice("IPv4", map[string]any{"ready": false}, "192.0.2.1")}
		}, "has no endpoint that is ready"},
		"foreign server": {func(c *cluster, cfg *conf.Kubernetes) {
			c.write("other.crt", c.caPEM)
			cfg.CAFile = filepath.Join(c.dir, "other.crt")
		}, "does not answer: tls: failed to verify certificate"},
		"nothing there":   {func(c *cluster, cfg *conf.Kubernetes) { cfg.APIServer = "https://127.0.0.1:1" }, "the API server https://127.0.0.1:1 does not answer: dial tcp 127.0.0.1:1: connect: connection refused (is kubernetes.apiServer right"},
		"no enroll token": {func(c *cluster, cfg *conf.Kubernetes) { cfg.EnrollTokenFile = "/nowhere" }, "token to enroll with: open /nowhere: no such file or directory (project a service account token"},
		"refused":         {func(c *cluster, _ *conf.Kubernetes) { c.refuse = errors.New("pod x runs on node n2") }, "controller 192.0.2.1:7443 does not enroll node n1: pod x runs on node n2"},
		"wrong answer":    {func(c *cluster, _ *conf.Kubernetes) { was := c.caPEM; c.newAuthority(); c.caPEM = was }, "its certificate is not of the authority in ConfigMap vragent-ca"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			k := c.keeper(t.TempDir())
			row.spoil(c, &k.cfg.Kubernetes)
			run(t, k)
			eventually(t, row.want, func() bool {
				ok, sentence := k.State(time.Now())
				return !ok && strings.HasPrefix(sentence, "this node is not enrolled: ") && strings.Contains(sentence, row.want)
			})
		})
	}
}

// Which endpoints take streams.
func TestEndpoints(t *testing.T) {
	no := false
	for want, list := range map[string][]map[string]any{
		"192.0.2.1:7443 192.0.2.2:7443": {controller("192.0.2.2", "192.0.2.1"), slice("IPv6", nil, "2001:db8::1")},
		"[2001:db8::1]:7443":            {slice("IPv4", map[string]any{"ready": no}, "192.0.2.1"), slice("IPv6", nil, "2001:db8::1")},
		"192.0.2.3:7443":                {slice("IPv4", map[string]any{"ready": no, "serving": true}, "192.0.2.3"), slice("FQDN", nil, "a.example")},
	} {
		c := newCluster(t)
		c.endpoints(list...)
		k := c.keeper(t.TempDir())
		a, err := newAPI(k.cfg.Kubernetes)
		if err != nil {
			t.Fatal(err)
		}
		got, version, err := a.controllers(context.Background())
		if err != nil || strings.Join(got, " ") != want || version == "" {
			t.Errorf("got %v %s %v, want %s", got, version, err, want)
		}
	}
}

// A damaged file, and that of another node, are no reason to stay away.
func TestFile(t *testing.T) {
	c, dir := newCluster(t), t.TempDir()
	file := filepath.Join(dir, "enrollment.json")
	for _, text := range []string{"{", `{"ca":"x"}`, `{}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k := c.keeper(dir)
		stop := run(t, k)
		eventually(t, "enrolled", k.at("192.0.2.1:7443"))
		stop()
	}
	k := c.keeper(dir)
	cfg := k.cfg
	cfg.Node = "n2"
	k = New(cfg)
	run(t, k)
	eventually(t, "enrolled", k.at("192.0.2.1:7443"))
	if leaf(t, k).Subject.CommonName != "n2" {
		t.Error("it goes on as n1")
	}
	// Given addresses are taken as they are.
	cfg.Addresses, cfg.StateDir = []string{"192.0.2.9:7443"}, t.TempDir()
	k = New(cfg)
	run(t, k)
	eventually(t, "enrolled", k.at("192.0.2.9:7443"))
}
