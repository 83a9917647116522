package health

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/compile"
)

func freePort(t *testing.T) (net.Listener, uint16) {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, uint16(l.Addr().(*net.TCPAddr).Port)
}

func ask(port uint16) string {
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
	if err != nil {
		return "closed"
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return fmt.Sprintf("%d weight=%s %s", r.StatusCode, r.Header.Get("X-Load-Balancing-Endpoint-Weight"), strings.TrimSpace(string(body)))
}

func becomes(t *testing.T, want string, get func() string) {
	t.Helper()
	got := get()
	for deadline := time.Now().Add(10 * time.Second); got != want && time.Now().Before(deadline); got = get() {
		time.Sleep(5 * time.Millisecond)
	}
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestServers(t *testing.T) {
	var sick atomic.Bool
	s := New(func() bool { return !sick.Load() }, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	l, web := freePort(t)
	_ = l.Close()
	taken, other := freePort(t)
	list := []compile.Health{
		{Port: web, Namespace: "demo", Service: "web", Endpoints: 2},
		{Port: other, Namespace: "demo", Service: "other"},
	}
	s.Set(list)
	askWeb := func() string { return ask(web) }
	becomes(t, `200 weight=2 {"service":{"namespace":"demo","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}`, askWeb)
	becomes(t, fmt.Sprintf("health checks of demo/other: listen tcp :%d: bind: address already in use", other),
		func() string { return strings.Join(s.Problems(), "; ") })
	list[0].Endpoints = 0
	s.Set(list)
	becomes(t, `503 weight=0 {"service":{"namespace":"demo","name":"web"},"localEndpoints":0,"serviceProxyHealthy":true}`, askWeb)
	list[0].Endpoints = 1
	sick.Store(true)
	s.Set(list)
	becomes(t, `503 weight=1 {"service":{"namespace":"demo","name":"web"},"localEndpoints":1,"serviceProxyHealthy":false}`, askWeb)
	_ = taken.Close()
	s.Set(list[1:])
	becomes(t, "closed", askWeb)
	becomes(t, "", func() string { return strings.Join(s.Problems(), "; ") })
	becomes(t, `503 weight=0 {"service":{"namespace":"demo","name":"other"},"localEndpoints":0,"serviceProxyHealthy":false}`, func() string { return ask(other) })
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	becomes(t, "closed", func() string { return ask(other) })
}
