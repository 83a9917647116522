package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"

	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/api"
	"github.com/vragent/vragent/controller/certs"
	"github.com/vragent/vragent/controller/cli"
	"github.com/vragent/vragent/controller/hub/fake"
	"github.com/vragent/vragent/controller/watch/kube/apitest"
)

const clusterObjects = `apiVersion: v1
kind: Namespace
metadata: {name: vragent-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: vragent, namespace: vragent-system}
---
apiVersion: vragent.io/v1alpha1
kind: VirtualNetwork
metadata: {name: public, namespace: default}
spec: {external: true, subnets: [198.18.0.0/28]}
---
apiVersion: vragent.io/v1alpha1
kind: FloatingIPPool
metadata: {name: pool, namespace: default}
spec: {virtualNetwork: public}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{name: http, port: 8888}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints:
- {addresses: [198.51.100.250], targetRef: {kind: Pod, name: a, namespace: default}}
- {addresses: [198.51.100.250], targetRef: {kind: Pod, name: b, namespace: default}}
`

// nodeObjects are a node with its agent's pod and a pod of ours.
func nodeObjects(node, pod string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Node
metadata: {name: %[1]s}
---
apiVersion: v1
kind: Pod
metadata: {name: vragent-%[1]s, namespace: vragent-system}
spec: {nodeName: %[1]s, hostNetwork: true, serviceAccountName: vragent, containers: [{name: a, image: a}]}
---
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: default}
spec: {nodeName: %[1]s, containers: [{name: a, image: a}]}
`, node, pod)
}

// cluster is an API server with replicas of the controller.
type cluster struct {
	*apitest.Server
	t        *testing.T
	client   *http.Client
	replicas []*site
}

func newCluster(t *testing.T, replicas int) *cluster {
	t.Helper()
	c := &cluster{Server: apitest.Start(t), t: t}
	c.Define(t, "../packaging/helm/vragent/crds")
	c.Apply(t, clusterObjects)
	c.Apply(t, nodeObjects("n1", "a"))
	c.Apply(t, nodeObjects("n2", "b"))
	var err error
	if c.client, err = rest.HTTPClientFor(c.Config); err != nil {
		t.Fatal(err)
	}
	for i := range replicas {
		t.Setenv("POD_NAME", fmt.Sprint("vrcontroller-", i))
		s := &site{t: t, stop: func() {}, config: c.settings()}
		t.Cleanup(func() { s.stop() })
		s.start()
		c.replicas = append(c.replicas, s)
	}
	return c
}

func (c *cluster) settings() *conf.Controller {
	config := newSite(c.t).config // for the networks
	config.Source = conf.SourceKubernetes
	config.Manifests, config.StateDir, config.TLS = "", "", conf.TLS{}
	config.Kubernetes = conf.ClusterAPI{Kubeconfig: c.Kubeconfig, Namespace: "vragent-system", LeaseName: "vrcontroller", AgentAccount: "vragent"}
	config.Networks.PublicPool = &conf.PoolName{Project: "k8s-default", Network: "public", Name: "pool"}
	config.Networks.BlockQuarantine.Duration = time.Hour
	return config
}

// get reads an object, or a list, of the API server.
func (c *cluster) get(path string, v any) {
	c.t.Helper()
	answer, err := c.client.Get(c.Config.Host + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(v); err != nil {
		c.t.Fatal(err)
	}
}

// blocks are node → prefixes; no prefix may be there twice.
func (c *cluster) blocks() map[string][]string {
	c.t.Helper()
	var list struct {
		Items []struct{ Spec struct{ Node, Prefix string } }
	}
	c.get("/apis/vragent.io/v1alpha1/ipblocks", &list)
	out, seen := map[string][]string{}, map[string]bool{}
	for _, b := range list.Items {
		if seen[b.Spec.Prefix] {
			c.t.Error("given twice:", b.Spec.Prefix)
		}
		seen[b.Spec.Prefix] = true
		out[b.Spec.Node] = append(out[b.Spec.Node], b.Spec.Prefix)
	}
	return out
}

// ingress is the address of the service and the version of its object.
func (c *cluster) ingress() (address, version string) {
	var s struct {
		Metadata struct{ ResourceVersion string }
		Status   struct {
			LoadBalancer struct{ Ingress []struct{ IP string } }
		}
	}
	c.get("/api/v1/namespaces/default/services/web", &s)
	if in := s.Status.LoadBalancer.Ingress; len(in) == 1 {
		address = in[0].IP
	}
	return address, s.Metadata.ResourceVersion
}

// token is what kubelet gives to an agent.
func (c *cluster) token(node string) string {
	c.t.Helper()
	var pod struct{ Metadata struct{ UID string } }
	c.get("/api/v1/namespaces/vragent-system/pods/vragent-"+node, &pod)
	body := fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":["vragent"],"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"vragent-%s","uid":%q}}}`, node, pod.Metadata.UID)
	answer, err := c.client.Post(c.Config.Host+"/api/v1/namespaces/vragent-system/serviceaccounts/vragent/token", "application/json", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	var review struct{ Status struct{ Token string } }
	if err := json.NewDecoder(answer.Body).Decode(&review); err != nil || review.Status.Token == "" {
		c.t.Fatal(answer.Status, err)
	}
	return review.Status.Token
}

// trust is what an agent finds in the ConfigMap.
func (c *cluster) trust(certificates ...tls.Certificate) *tls.Config {
	c.t.Helper()
	var m struct{ Data map[string]string }
	c.get("/api/v1/namespaces/vragent-system/configmaps/vragent-ca", &m)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(m.Data["ca.crt"])) {
		c.t.Fatal("no certificate authority")
	}
	return &tls.Config{RootCAs: pool, ServerName: certs.ServerName, Certificates: certificates, MinVersion: tls.VersionTLS13}
}

// member is a node with one full stream and others as standby.
type member struct {
	*node
	c           *cluster
	certificate tls.Certificate
	streams     map[*site]*fake.Agent
	told        map[*fake.Agent]string
}

// enroll gets a node's certificate from a replica.
func (c *cluster) enroll(from *site, node, token string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: node}}, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	text, err := fake.Enroll(c.t.Context(), fake.Config{Address: from.config.Listen.Southbound, TLS: c.trust()}, token, csr)
	if err != nil {
		return tls.Certificate{}, err
	}
	block, _ := pem.Decode(text)
	return tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}, nil
}

func (c *cluster) join(name string, primary *site) *member {
	c.t.Helper()
	certificate, err := c.enroll(primary, name, c.token(name))
	if err != nil {
		c.t.Fatal(err)
	}
	m := &member{
		node: &node{name: name, addresses: map[string]string{}}, c: c, certificate: certificate,
		streams: map[*site]*fake.Agent{}, told: map[*fake.Agent]string{},
	}
	for _, s := range c.replicas {
		m.connect(s, s != primary)
	}
	return m
}

// connect opens a stream to a replica; a full one goes on from what is held.
func (m *member) connect(to *site, standby bool) {
	m.c.t.Helper()
	config := fake.Config{Address: to.config.Listen.Southbound, TLS: m.c.trust(m.certificate), Node: m.name, Tunnel: "192.0.2." + m.name[1:], Standby: standby}
	if !standby && m.Agent != nil {
		config.Held = m.Held()
	}
	ctx, cancel := context.WithCancel(context.Background())
	a, err := fake.Dial(ctx, config)
	if err != nil {
		cancel()
		m.c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = a.Run() }()
	m.c.t.Cleanup(func() { cancel(); _ = a.Close(); <-ended })
	m.streams[to] = a
	if !standby {
		m.node.Agent = a
	}
}

// speak says to every replica what is new to it.
func (m *member) speak() {
	p := m.words()
	if p == nil {
		return
	}
	for _, a := range m.streams {
		if text := p.String(); m.told[a] != text && a.Publish(p) == nil {
			m.told[a] = text
		}
	}
}

func speaking(ok func() bool, members ...*member) func() bool {
	return func() bool {
		for _, m := range members {
			m.speak()
		}
		return ok()
	}
}

// leader is the replica that writes; nil: none.
func (c *cluster) leader() *site {
	for _, s := range c.replicas {
		if st, err := s.status(); err == nil && st.APIServer.Leader.Self {
			return s
		}
	}
	return nil
}

func (s *site) status() (*api.Status, error) {
	answer, err := http.Get("http://" + s.config.Listen.API + "/status")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var st api.Status
	return &st, json.NewDecoder(answer.Body).Decode(&st)
}

func (s *site) ready() bool {
	answer, err := http.Get("http://" + s.config.Listen.API + "/readyz")
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// ask is a command line whose error is wanted.
func (s *site) ask(args ...string) (string, error) {
	var out bytes.Buffer
	app := cli.App(cli.Program{Version: "test", Out: &out})
	err := app.RunContext(context.Background(), append(append([]string{"vrcontroller"}, args...), "--api", s.config.Listen.API))
	return out.String(), err
}

// TestReplicas: two controllers on a real API server; agents enroll, one leads,
// the other takes over, and nothing that was given is given again.
func TestReplicas(t *testing.T) {
	c := newCluster(t, 2)
	eventually(t, "a leader", func() bool { return c.leader() != nil && c.replicas[0].ready() && c.replicas[1].ready() })
	leader := c.leader()
	other := c.replicas[1-slices.Index(c.replicas, leader)]

	if _, err := c.enroll(leader, "n2", c.token("n1")); status.Code(err) != codes.PermissionDenied {
		t.Error("n1 enrolls as n2:", err)
	}
	if _, err := c.enroll(other, "n1", "x.y.z"); status.Code(err) != codes.PermissionDenied {
		t.Error("a bad token:", err)
	}
	n1, n2 := c.join("n1", leader), c.join("n2", other)
	both := func() bool { return slices.Equal(n1.members(), n2.members()) && len(n1.members()) == 2 }
	eventually(t, "the service on both nodes", speaking(both, n1, n2))
	blocks := c.blocks()
	if len(blocks) != 2 || len(blocks["n1"]) != 1 || len(blocks["n2"]) != 1 {
		t.Error(blocks)
	}
	var address, version string
	eventually(t, "an address", speaking(func() bool { address, version = c.ingress(); return address != "" }, n1, n2))
	served := n1.members()

	// The leader is gone: its agent goes on with the other, which leads now.
	leader.stop()
	n1.connect(other, false)
	eventually(t, "the next leader", speaking(func() bool { return c.leader() == other }, n1, n2))
	eventually(t, "in sync", speaking(func() bool { return n1.Synced() == types }, n1, n2))
	if _, upserts, removes := n1.Received(); upserts+removes != 0 || !slices.Equal(n1.members(), served) {
		t.Errorf("fail-over took %d upserts and %d removals", upserts, removes)
	}
	c.Apply(t, nodeObjects("n3", "c"))
	c.replicas = []*site{other}
	token := c.token("n3")
	eventually(t, "n3 is known", func() bool { _, err := c.enroll(other, "n3", token); return err == nil })
	n3 := c.join("n3", other)
	eventually(t, "a block for n3", speaking(func() bool { return len(c.blocks()["n3"]) == 1 }, n1, n2, n3))
	if again, now := c.ingress(); again != address || now != version {
		t.Error("the status was written again:", address, again)
	}

	// The old one comes back, and changes nothing.
	leader.start()
	c.replicas = []*site{other, leader}
	eventually(t, "ready", leader.ready)
	for _, m := range []*member{n1, n2, n3} {
		m.connect(leader, true)
	}
	eventually(t, "all are heard there", speaking(func() bool {
		st, err := leader.status()
		if err != nil || st.State != "running" {
			return false
		}
		return len(st.Agents) == 3 && !slices.ContainsFunc(st.Agents, func(a api.Agent) bool { return a.State != "standby" })
	}, n1, n2, n3))
	if again, now := c.ingress(); again != address || now != version || c.leader() != other {
		t.Error("a restart wrote something")
	}
	c.divided(other, leader, n1, n2, n3)
	c.leak(n3, other, leader)
	c.away(other, n1, n2)
}

// again is a second service of pod a.
const again = `apiVersion: v1
kind: Service
metadata: {name: again, namespace: default}
spec: {ports: [{name: http, port: 9999}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: again, namespace: default, labels: {kubernetes.io/service-name: again}}
addressType: IPv4
ports: [{name: http, port: 81}]
endpoints:
- {addresses: [198.51.100.250], targetRef: {kind: Pod, name: a, namespace: default}}
`

// divided: the controller that n1 obeys keeps a port map that the one of n2 was
// never told of. What is new is known to both nodes nevertheless, at once.
func (c *cluster) divided(of1, of2 *site, n1, n2, n3 *member) {
	t := c.t
	members := func(want int) func() bool {
		return speaking(func() bool { return len(n1.members()) == want && len(n2.members()) == want }, n1, n2, n3)
	}
	of2.stop()
	c.Apply(t, again)
	eventually(t, "a service", speaking(func() bool { return len(n1.members()) == 3 }, n1))
	c.Delete(t, again)
	eventually(t, "no service", func() bool { return len(n1.members()) == 2 })
	of2.start()
	n1.connect(of2, true)
	n2.connect(of2, false)
	n2.connect(of1, true)
	n3.connect(of2, true)
	eventually(t, "n2 obeys its own controller", speaking(func() bool { return n2.Synced() == types && len(n2.members()) == 2 }, n1, n2, n3))
	c.Apply(t, strings.ReplaceAll(again, "again", "more"))
	began := time.Now()
	eventually(t, "another service on both nodes", members(3))
	t.Log("announced after", time.Since(began))
	c.Delete(t, strings.ReplaceAll(again, "again", "more"))
	eventually(t, "none on both nodes", members(2))
	n2.connect(of1, false)
}

// leak: a node is deleted for good. Only the leader gives its block back, when asked to.
func (c *cluster) leak(n3 *member, leader, other *site) {
	t := c.t
	for _, a := range n3.streams {
		_ = a.Close()
	}
	c.Delete(t, nodeObjects("n3", "c"))
	out, err := other.ask("ipam", "check", "--repair")
	if cli.ExitCode(err) != cli.ExitUnknown || !strings.Contains(err.Error(), "this replica is not the leader and repairs nothing; ask vrcontroller-") {
		t.Error(out, err)
	}
	eventually(t, "the leak", func() bool {
		out, err = leader.ask("ipam", "check")
		return cli.ExitCode(err) == cli.ExitUnhealthy && strings.Contains(out, "leak: Node n3: is not in the cluster and holds")
	})
	if !strings.Contains(out, "its agent is still heard of") || len(c.blocks()["n3"]) != 1 {
		t.Error("given back while its agent may come back:", out)
	}
}

// away: the API server is gone. Agents are served as before, nothing is written.
func (c *cluster) away(s *site, members ...*member) {
	t := c.t
	before := map[string]int{}
	for _, m := range members {
		_, _, before[m.name] = m.Received()
	}
	c.Stop(t)
	eventually(t, "a word about it", func() bool {
		st, err := s.status()
		return err == nil && !st.Healthy && !st.APIServer.Connected
	})
	out, err := s.ask("status")
	if cli.ExitCode(err) != cli.ExitUnhealthy || !strings.Contains(out, "does not serve this controller") || !s.ready() {
		t.Error(out, err)
	}
	for _, m := range members {
		if _, _, removes := m.Received(); removes != before[m.name] || len(m.members()) != 2 {
			t.Error("taken away:", m.name, m.members())
		}
	}
	c.Resume(t)
	eventually(t, "connected again", speaking(func() bool {
		st, err := s.status()
		return err == nil && st.APIServer.Connected && c.leader() != nil
	}, members...))
}
