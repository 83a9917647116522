package hub

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vragent/vragent/controller/certs"
	"github.com/vragent/vragent/controller/hub/fake"
)

// tokens knows those that are named after a node.
type tokens struct{ down bool }

func (k *tokens) Node(_ context.Context, token string) (string, string, error) {
	if k.down {
		return "", "", errors.New("API server away")
	}
	node, good := strings.CutPrefix(token, "pod on ")
	if !good {
		return "", "the token is not valid", nil
	}
	return node, "", nil
}

// cluster is a Hub that has its authority in memory and enrolls agents.
type cluster struct {
	*Hub
	t    *testing.T
	addr string
	ca   []byte
	down *tokens
	log  *bytes.Buffer // read it after stop
	stop func()
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	cert, key, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := certs.ParseAuthority(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, ca: cert, down: &tokens{}, log: &bytes.Buffer{}}
	c.Hub, err = New(Config{TLS: authority, Enroll: &Enrollment{c.down, authority}, Log: slog.New(slog.NewTextHandler(c.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, l) }()
	c.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		c.stop = func() {}
	}
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *cluster) config(certificates ...tls.Certificate) fake.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.ca)
	return fake.Config{Address: c.addr, Node: "n1", Tunnel: "192.0.2.1", TLS: &tls.Config{
		RootCAs: pool, ServerName: certs.ServerName, Certificates: certificates, MinVersion: tls.VersionTLS13,
	}}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csrOf(t *testing.T, node string, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: node}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// An agent without a certificate gets one, and only then a stream.
func TestEnrollThenStream(t *testing.T) {
	c := startCluster(t)
	c.Publish(intents(nil, nil))
	stranger, err := fake.Dial(t.Context(), c.config())
	if err == nil {
		err = stranger.Run()
		_ = stranger.Close()
	}
	if status.Code(err) != codes.Unauthenticated && !errors.Is(err, io.EOF) || len(c.Reports()) != 0 {
		t.Error("a stream without a certificate:", err)
	}
	key := newKey(t)
	text, err := fake.Enroll(t.Context(), c.config(), "pod on n1", csrOf(t, "n1", key))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	a, err := fake.Dial(t.Context(), c.config(tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run() }()
	eventually(t, "in sync", func() bool { return a.Synced() == types })
	_ = a.Close()
	<-ended
	if c.stop(); !strings.Contains(c.log.String(), `msg="agent enrolled" node=n1 remote=127.0.0.1`) {
		t.Error(c.log.String())
	}
}

func TestEnrollmentIsRefused(t *testing.T) {
	c := startCluster(t)
	key := newKey(t)
	good := csrOf(t, "n1", key)
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		token string
		csr   []byte
		down  bool
		code  codes.Code
		want  string
	}{
		"another node's token": {"pod on n2", good, false, codes.PermissionDenied, `the request is for node "n1", the token is of a pod on node "n2"`},
		"a bad token":          {"x", good, false, codes.PermissionDenied, "the token is not valid"},
		"no name":              {"pod on n1", csrOf(t, "", key), false, codes.PermissionDenied, "names no node"},
		"no request":           {"pod on n1", nil, false, codes.PermissionDenied, "certificate request"},
		"a forged signature":   {"pod on n1", forged, false, codes.PermissionDenied, "certificate request"},
		"a weak key":           {"pod on n1", csrOf(t, "n1", p224), false, codes.PermissionDenied, "neither ECDSA"},
		"nobody to ask":        {"pod on n1", good, true, codes.Unavailable, "API server away"},
	} {
		c.down.down = x.down
		got, err := fake.Enroll(t.Context(), c.config(), x.token, x.csr)
		if status.Code(err) != x.code || !strings.Contains(err.Error(), x.want) || len(got) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without Enrollment the service is not there at all.
func TestNoEnrollmentWithFiles(t *testing.T) {
	h := start(t, 0)
	_, err := fake.Enroll(t.Context(), h.config("n1"), "pod on n1", csrOf(t, "n1", newKey(t)))
	if status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

func TestEnrollmentsAreLimited(t *testing.T) {
	c := startCluster(t)
	csr := csrOf(t, "n1", newKey(t))
	refused := 0
	for range enrollBurst + 5 {
		if _, err := fake.Enroll(t.Context(), c.config(), "x", csr); status.Code(err) == codes.ResourceExhausted {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no limit")
	}
}

func TestLimiter(t *testing.T) {
	l, now := newLimiter(), time.Unix(1000, 0)
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range enrollBurst {
		if !l.allow(one, now) {
			t.Fatal("refused within the burst:", i)
		}
	}
	if l.allow(one, now) || !l.allow(two, now) {
		t.Error("each address has its own limit")
	}
	if !l.allow(one, now.Add(enrollEvery)) || l.allow(one, now.Add(enrollEvery)) {
		t.Error("one more each time")
	}
	v6 := netip.MustParseAddr("2001:db8::1")
	for range enrollBurst {
		l.allow(v6, now)
		v6 = v6.Next()
	}
	if l.allow(v6, now) {
		t.Error("one /64 is one source")
	}
	l.allow(netip.Addr{}, now) // has no panic
	for i := range 2 * maxSources {
		l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(l.next) > maxSources {
		t.Error(len(l.next))
	}
	if !l.allow(netip.MustParseAddr("192.0.2.77"), now.Add(time.Minute)) {
		t.Error("those that are forgotten make room")
	}
}
