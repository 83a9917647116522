package dial

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	pb "github.com/vragent/vragent/controller/southbound"
)

// authority makes certificates.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	a.write("ca.crt", "CERTIFICATE", raw)
	return a
}

func (a *authority) write(name, kind string, raw []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func (a *authority) leaf(name string, ips ...net.IP) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	rawKey, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".crt", "CERTIFICATE", raw), a.write(name+".key", "EC PRIVATE KEY", rawKey)
}

// hub is a controller that says what the test tells it to.
type hub struct {
	pb.UnimplementedSouthboundServer
	server *grpc.Server
	addr   string
	said   chan *pb.FromAgent // by agents
	say    chan *pb.ToAgent
	cut    chan struct{} // ends a stream
}

func newHub(t *testing.T, a *authority, addr string) *hub {
	t.Helper()
	cert, key := a.leaf("controller", net.IPv4(127, 0, 0, 1))
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{addr: l.Addr().String(), said: make(chan *pb.FromAgent, 100), say: make(chan *pb.ToAgent), cut: make(chan struct{})}
	h.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})))
	pb.RegisterSouthboundServer(h.server, h)
	var wait sync.WaitGroup
	wait.Go(func() { _ = h.server.Serve(l) })
	t.Cleanup(func() { h.server.Stop(); wait.Wait() })
	return h
}

func (h *hub) Stream(s pb.Southbound_StreamServer) error {
	go func() {
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			h.said <- m
		}
	}()
	for {
		select {
		case <-s.Context().Done():
			return s.Context().Err()
		case <-h.cut:
			return errors.New("cut")
		case m := <-h.say:
			if err := s.Send(m); err != nil {
				return err
			}
		}
	}
}

func (h *hub) next(t *testing.T) *pb.FromAgent {
	t.Helper()
	select {
	case m := <-h.said:
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("the agent says nothing")
		return nil
	}
}

func (h *hub) tell(t *testing.T, m *pb.ToAgent) {
	t.Helper()
	select {
	case h.say <- m:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody listens")
	}
}

func stream(t *testing.T, a *authority, addrs ...string) *Southbound {
	t.Helper()
	cert, key := a.leaf("n1")
	held := []*pb.ResourceVersion{{Type: pb.Type_TYPE_VMI, Name: "u", Version: "v"}}
	s := NewSouthbound(SouthboundConfig{
		Node: "n1", Version: "test", Address: "192.0.2.1", Log: slog.New(slog.DiscardHandler),
		Controllers: &Files{List: addrs, CA: filepath.Join(a.dir, "ca.crt"), Cert: cert, Key: key},
	}, func() []*pb.ResourceVersion { return held })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = s.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s
}

func update(t *testing.T, s *Southbound) Update {
	t.Helper()
	select {
	case u := <-s.Updates():
		return u
	case <-time.After(10 * time.Second):
		t.Fatal("no update")
		return Update{}
	}
}

func local(vmis ...string) *Local {
	l := NewLocal()
	l.Ready = true
	for _, u := range vmis {
		l.VMIs[u] = &pb.VMIStatus{Uuid: u, Label: 20}
	}
	return l
}

func TestStream(t *testing.T) {
	a := newAuthority(t)
	h := newHub(t, a, "127.0.0.1:0")
	s := stream(t, a, h.addr)

	hello := h.next(t).GetHello()
	if hello.GetNode() != "n1" || hello.GetAgentVersion() != "test" || hello.GetTunnelAddress() != "192.0.2.1" || len(hello.GetHave()) != 1 {
		t.Fatalf("hello %v", hello)
	}
	h.tell(t, &pb.ToAgent{Nonce: 1, InSync: []pb.Type{pb.Type_TYPE_VMI}})
	u := update(t, s)
	if l := s.Link(); !l.Connected || l.Address != h.addr {
		t.Errorf("link %+v", l)
	}
	s.Ack(u, []*pb.Nack{{Name: "bad", Error: "no"}})
	if ack := h.next(t).GetAck(); ack.GetNonce() != 1 || len(ack.GetNacks()) != 1 {
		t.Errorf("ack %v", ack)
	}
	s.Publish(local("a", "b"))
	if p := h.next(t).GetPublish(); len(p.GetVmis()) != 2 || !p.GetInSync() {
		t.Errorf("publication %v", p)
	}
	s.Publish(local("a", "b")) // nothing new: nothing said
	s.Publish(local("b", "c"))
	if p := h.next(t).GetPublish(); len(p.GetVmis()) != 1 || p.GetVmis()[0].GetUuid() != "c" || len(p.GetRemovedVmis()) != 1 || p.GetInSync() {
		t.Errorf("publication %v", p)
	}
}

// A stream that breaks comes back by itself: everything is said again, and what
// was acknowledged for the old one is not for the new.
func TestStreamComesBack(t *testing.T) {
	a := newAuthority(t)
	h := newHub(t, a, "127.0.0.1:0")
	s := stream(t, a, h.addr)
	s.Publish(local("a"))
	h.next(t)
	if p := h.next(t).GetPublish(); !p.GetInSync() {
		t.Errorf("publication %v", p)
	}
	h.tell(t, &pb.ToAgent{Nonce: 1})
	old := update(t, s)
	h.cut <- struct{}{}
	eventually(t, "the link is down", func() bool { return !s.Link().Connected })
	if l := s.Link(); !strings.Contains(l.Err, "cut") || time.Since(l.Since) > time.Minute {
		t.Errorf("link %+v", l)
	}
	if m := h.next(t); m.GetHello() == nil {
		t.Fatalf("got %v, want a hello", m)
	}
	s.Ack(old, nil)
	if p := h.next(t).GetPublish(); len(p.GetVmis()) != 1 || !p.GetInSync() {
		t.Errorf("publication %v", p)
	}
	h.tell(t, &pb.ToAgent{Nonce: 1})
	s.Ack(update(t, s), nil)
	if m := h.next(t); !proto.Equal(m.GetAck(), &pb.Ack{Nonce: 1}) {
		t.Errorf("got %v", m)
	}
	select {
	case m := <-h.said:
		t.Errorf("a stale acknowledgement: %v", m)
	case <-time.After(50 * time.Millisecond):
	}
}

// An empty node also says that it has said everything.
func TestEmptyNodeIsInSync(t *testing.T) {
	a := newAuthority(t)
	h := newHub(t, a, "127.0.0.1:0")
	s := stream(t, a, h.addr)
	h.next(t)
	s.Publish(local())
	if p := h.next(t).GetPublish(); p == nil || !p.GetInSync() {
		t.Errorf("publication %v", p)
	}
}

func TestSecondController(t *testing.T) {
	a := newAuthority(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	h := newHub(t, a, "127.0.0.1:0")
	s := stream(t, a, dead.Addr().String(), h.addr)
	h.primary(t)
	h.tell(t, &pb.ToAgent{Nonce: 1})
	update(t, s)
	if s.Link().Address != h.addr {
		t.Errorf("link %+v", s.Link())
	}
}

// What is wrong with certificates is said.
func TestCertificates(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	h := newHub(t, a, "127.0.0.1:0")
	for name, c := range map[string]struct {
		spoil func(*Files)
		want  string
	}{
		"foreign controller": {func(c *Files) { c.CA = filepath.Join(other.dir, "ca.crt") }, "unknown authority"},
		"no file":            {func(c *Files) { c.Cert = "/nowhere" }, "controller.cert"},
		"no CA":              {func(c *Files) { c.CA = "/nowhere" }, "controller.ca"},
		"empty CA":           {func(c *Files) { c.CA = c.Key }, "no certificate in it"},
		"foreign node":       {func(c *Files) { c.Cert, c.Key = other.leaf("n1") }, "certificate"},
	} {
		cert, key := a.leaf("n1")
		files := &Files{List: []string{h.addr}, CA: filepath.Join(a.dir, "ca.crt"), Cert: cert, Key: key}
		c.spoil(files)
		s := NewSouthbound(SouthboundConfig{Node: "n1", Controllers: files, Log: slog.New(slog.DiscardHandler)}, func() []*pb.ResourceVersion { return nil })
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { _ = s.Run(ctx); close(ended) }()
		eventually(t, name+": "+c.want, func() bool { return strings.Contains(s.Link().Err, c.want) })
		cancel()
		<-ended
	}
}

func TestSince(t *testing.T) {
	told, now := NewLocal(), NewLocal()
	k := RouteKey{"vn", "192.0.2.0/26"}
	now.Routes[k] = &pb.LocalRoute{Vrf: "vn", Prefix: k.Prefix, Label: 16}
	now.Blocks[k] = &pb.BlockStatus{VirtualNetwork: "vn", Prefix: k.Prefix, Used: 1}
	now.Host = &pb.HostStatus{Addresses: []string{"192.0.2.1"}}
	p := now.since(told)
	if len(p.GetRoutes()) != 1 || len(p.GetBlocks()) != 1 || p.GetHost() == nil {
		t.Errorf("%v", p)
	}
	if p := now.since(now); p != nil {
		t.Errorf("%v", p)
	}
	if p := NewLocal().since(now); len(p.GetRemovedRoutes()) != 1 {
		t.Errorf("%v", p)
	}
}
