// Package apitest runs a real etcd and kube-apiserver for tests. A Server owns
// its two processes and its folder, and ends with its test. It has no
// controllers: nothing makes EndpointSlices, collects garbage or schedules.
package apitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
)

// Binaries is the environment variable that names the folder with etcd and kube-apiserver.
const Binaries = "VRAGENT_K8S_BIN"

const (
	startLimit = 90 * time.Second // on a busy machine
	lookAgain  = 50 * time.Millisecond
)

// Server is an API server of one test, on the loopback.
type Server struct {
	Config     *rest.Config // with all rights
	Kubeconfig string       // path of the same

	// Set once by Start
	bin  string
	dir  string
	etcd string // address
	api  string // address

	// Owned by the test's goroutine
	store  *program
	server *program
}

// Start brings both up; the test's end removes them. Without binaries the test
// is skipped.
func Start(t testing.TB) *Server {
	t.Helper()
	bin := os.Getenv(Binaries)
	if bin == "" {
		t.Skip(Binaries + " names no folder with etcd and kube-apiserver; make cluster-deps builds them")
	}
	s := &Server{bin: bin, dir: t.TempDir()}
	s.credentials(t)
	s.startStore(t)
	s.Resume(t)
	return s
}

// Stop kills the API server, as a crash would; etcd goes on.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.server.kill()
}

// Resume starts the API server again at the same address, and waits until it is ready.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.server = start(t, s.dir, filepath.Join(s.bin, "kube-apiserver"),
		"--etcd-servers=http://"+s.etcd,
		"--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", "--secure-port="+port(s.api), "--permit-port-sharing",
		"--tls-cert-file="+s.path("serving.crt"), "--tls-private-key-file="+s.path("serving.key"),
		"--token-auth-file="+s.path("tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+s.path("serving.key"),
		"--service-account-signing-key-file="+s.path("serving.key"),
		"--service-cluster-ip-range=10.96.0.0/16,2001:db8:96::/112",
		"--disable-admission-plugins=ServiceAccount", "--allow-privileged", "--profiling=false",
		"--shutdown-delay-duration=0s", "--endpoint-reconciler-type=none")
	s.server.await(t, func(ctx context.Context) error { return s.ready(ctx) })
}

// ready asks for what a test needs first: the namespace that everything is in.
func (s *Server) ready(ctx context.Context) error {
	for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
		if _, err := s.do(ctx, request{method: http.MethodGet, path: path}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) startStore(t testing.TB) {
	t.Helper()
	s.etcd = reserve(t)
	peer := "http://" + reserve(t)
	s.store = start(t, s.dir, filepath.Join(s.bin, "etcd"), "--data-dir="+s.path("etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls=http://"+s.etcd, "--advertise-client-urls=http://"+s.etcd, "--socket-reuse-port",
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	s.store.await(t, func(ctx context.Context) error { return s.askStore(ctx, "/v3/maintenance/status", "{}", nil) })
}

// reserve is an address that nobody else gets until the test ends: a socket is
// bound to it and never listens, and who wants to listen shares its port.
func reserve(t testing.TB) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	loopback := [4]byte{127, 0, 0, 1}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback})); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(loopback), uint16(bound.(*unix.SockaddrInet4).Port)).String()
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address) // of reserve
	return p
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// drain makes a connection ready for its next use.
func drain(r *http.Response) ([]byte, error) {
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s: %s", r.Status, text)
	}
	return text, err
}
