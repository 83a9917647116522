package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vragent/vragent/integration/testbed"
)

// Two services as seen from outside: any backend answers the one, and sees the
// node; the other's clients keep their addresses and are answered on web3's node.
const outsideServices = `
apiVersion: v1
kind: Service
metadata: {namespace: demo, name: anywhere}
spec:
  type: NodePort
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20]
  ipFamilies: [IPv4]
  externalIPs: [203.0.113.50]
  ports:
  - {name: tcp, protocol: TCP, port: 7, targetPort: 7007, nodePort: 30007}
  - {name: udp, protocol: UDP, port: 7, targetPort: 7007, nodePort: 30007}
---
apiVersion: v1
kind: Service
metadata: {namespace: demo, name: here}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.21
  clusterIPs: [10.96.0.21]
  ipFamilies: [IPv4]
  externalIPs: [203.0.113.51]
  externalTrafficPolicy: Local
  healthCheckNodePort: 30999
  ports:
  - {name: tcp, protocol: TCP, port: 7, targetPort: 7007, nodePort: 30008}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: demo, name: anywhere-1, labels: {kubernetes.io/service-name: anywhere}}
addressType: IPv4
ports:
- {name: tcp, protocol: TCP, port: 7007}
- {name: udp, protocol: UDP, port: 7007}
endpoints:
- {addresses: [10.32.255.1], nodeName: node1, targetRef: {kind: Pod, namespace: demo, name: web1}}
- {addresses: [10.32.255.3], nodeName: node2, targetRef: {kind: Pod, namespace: demo, name: web3}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: demo, name: here-1, labels: {kubernetes.io/service-name: here}}
addressType: IPv4
ports:
- {name: tcp, protocol: TCP, port: 7007}
endpoints:
- {addresses: [10.32.255.3], nodeName: node2, targetRef: {kind: Pod, namespace: demo, name: web3}}
`

// withoutKubeProxy makes controller and agents serve node ports, until the test ends.
func withoutKubeProxy(t *testing.T, l *testbed.Lab) {
	t.Helper()
	change := func(file string, d *testbed.Daemon, setting string, back func()) {
		t.Helper()
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		restart := func(text []byte) {
			t.Helper()
			if err := errors.Join(os.WriteFile(file, text, 0o644), d.Kill(), d.Start()); err != nil {
				t.Fatal(err)
			}
			back()
		}
		restart(append(before, "\n"+setting+": true\n"...))
		t.Cleanup(func() { restart(before) })
	}
	change(filepath.Join(l.RunDir, "vrcontroller.yaml"), l.Controller, "nodePorts", func() {})
	for _, n := range l.Nodes {
		change(filepath.Join(n.RunDir(), "vragent.yaml"), n.Agent, "kubeProxyReplacement", func() { waitReady(t, l, n) })
	}
}

func TestServicesFromOutside(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	before := remember(t, l.Nodes["node1"])
	withoutKubeProxy(t, l)
	if err := l.WriteManifest("95-outside.yaml", outsideServices); err != nil {
		t.Fatal(err)
	}
	one, two := l.Nodes["node1"], l.Nodes["node2"]
	for vip, via := range map[string]string{"203.0.113.50": one.Address, "203.0.113.51": two.Address} {
		if _, err := l.Underlay.Run(ctx, "ip", "route", "add", vip, "via", via); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = l.Underlay.Run(ctx, "ip", "route", "del", vip) })
	}
	client, web3 := l.Pod("client").Place, l.Pod("web3").Place
	waitVisit(t, l.Outside, one.Address+":30007", "web1", "10.32.") // everything is there by then
	for _, v := range []struct {
		from       *testbed.Place
		to, server string
		seen       string // begins the client's address; of the service's answer
	}{
		{l.Outside, one.Address + ":30007", "web3", "10.32."},
		{l.Outside, two.Address + ":30007", "web1", "10.32."},
		{one.Place, one.Address + ":30007", "web3", "10.32."},
		{one.Place, two.Address + ":30007", "web1", "10.32."},
		{client, one.Address + ":30007", "web1", "10.32."},
		{client, two.Address + ":30007", "web3", "10.32."},
		{l.Outside, "203.0.113.50:7", "web3", "10.32."},
		{client, "203.0.113.50:7", "web1", "10.32."},
		{one.Place, "203.0.113.50:7", "web3", "10.32."},
		{l.Outside, two.Address + ":30008", "web3", testbed.OutsideAddress},
		{l.Outside, "203.0.113.51:7", "web3", testbed.OutsideAddress},
		{one.Place, one.Address + ":30008", "web3", "10.32."},
		{client, one.Address + ":30008", "web3", "10.32."},
		{web3, two.Address + ":30008", "web3", "10."}, // itself
		{client, "203.0.113.51:7", "web3", "10.32."},
	} {
		waitVisit(t, v.from, v.to, v.server, v.seen)
	}
	if k, err := connect(l.Outside, one.Address+":30008", 0); err == nil {
		t.Errorf("a client outside is answered by %s, where no backend is", k.server)
		_ = k.Close()
	}
	if server, err := who(l.Outside, one.Address+":30007"); err != nil || server != "web1" && server != "web3" {
		t.Errorf("UDP: %q %v", server, err)
	}
	for n, want := range map[*testbed.Node]string{
		one: `503 {"service":{"namespace":"demo","name":"here"},"localEndpoints":0,"serviceProxyHealthy":true}`,
		two: `200 {"service":{"namespace":"demo","name":"here"},"localEndpoints":1,"serviceProxyHealthy":true}`,
	} {
		if got := healthCheck(l.Outside, n.Address+":30999"); got != want {
			t.Errorf("health check of %s: %s, want %s", n.Name, got, want)
		}
	}
	if err := l.RemoveManifest("95-outside.yaml"); err != nil {
		t.Fatal(err)
	}
	err := testbed.Until(ctx, patience, func() error { return nothingOutside(ctx, l) })
	if err != nil {
		t.Error(err)
	}
	before.same(t, remember(t, one))
}

// waitVisit connects until the wanted server answers, which is one of several,
// and may be known in a moment only.
func waitVisit(t *testing.T, from *testbed.Place, to, server, seen string) {
	t.Helper()
	err := testbed.Until(context.Background(), patience, func() error {
		k, err := connect(from, to, 0)
		if err != nil {
			return err
		}
		_ = k.Close()
		if k.server != server {
			return fmt.Errorf("answered by %s, want %s", k.server, server)
		}
		if !strings.HasPrefix(k.seen.Addr().String(), seen) {
			return fmt.Errorf("seen as %v, want %s", k.seen, seen)
		}
		return nil
	})
	if err != nil {
		t.Errorf("%s to %s: %v", from.Name, to, err)
	}
}

func healthCheck(from *testbed.Place, addr string) string {
	c := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return from.Dial(&net.Dialer{}, network, addr)
		},
	}}
	r, err := c.Get("http://" + addr + "/")
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return fmt.Sprintf("%d %s", r.StatusCode, strings.TrimSpace(string(body)))
}

// nothingOutside wants no trace of services of outside in the nodes' kernels.
func nothingOutside(ctx context.Context, l *testbed.Lab) error {
	for _, n := range l.Nodes {
		rules, err := n.Run(ctx, "iptables-save", "-t", "nat")
		if err == nil && strings.Contains(rules, "NODEPORTS") {
			err = fmt.Errorf("%s: rules are left: %s", n.Name, rules)
		}
		routes, failed := n.Run(ctx, "ip", "route", "show", "proto", "201")
		if failed == nil && strings.Contains(routes, "203.0.113.") {
			failed = fmt.Errorf("%s: routes are left: %s", n.Name, routes)
		}
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		if got := healthCheck(n.Place, n.Address+":30999"); !strings.Contains(got, "refused") {
			return fmt.Errorf("%s: the health check is answered: %s", n.Name, got)
		}
	}
	return nil
}
