package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vragent/vragent/integration/testbed"
)

const kubeProxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %[1]s
clientConnection: {kubeconfig: %[2]s, contentType: application/json, acceptContentTypes: application/json}
clusterCIDR: "10.32.0.0/12"
detectLocalMode: ClusterCIDR
hostnameOverride: %[3]s
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s, udpTimeout: 0s, udpStreamTimeout: 0s}
`

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: bench, cluster: {server: "http://%s"}}]
users: [{name: bench, user: {}}]
contexts: [{name: bench, context: {cluster: bench, user: bench}}]
current-context: bench
`

// writeRules lets the real kube-proxy write its rules on both nodes and ends it:
// the rules stay, and while others are measured nothing of it runs. It lists its
// objects from a stand-in for the API server, see apiServer.
func (b *bridge) writeRules(ctx context.Context) error {
	binary := filepath.Join(b.o.k8s, "kube-proxy")
	failed := make(chan error)
	for _, name := range nodes() {
		go func() {
			err := b.runProxy(ctx, binary, b.lab.Nodes[name])
			if err != nil {
				err = fmt.Errorf("kube-proxy on %s: %w", name, err)
			}
			failed <- err
		}()
	}
	var errs []error
	for range nodes() {
		errs = append(errs, <-failed)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return b.describe(ctx, binary)
}

func (b *bridge) runProxy(ctx context.Context, binary string, node *testbed.Node) error {
	listener, err := node.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	api := &http.Server{Handler: apiServer(b.cluster)}
	go func() { _ = api.Serve(listener) }() // ends by Close
	defer api.Close()
	dir := node.StateDir()
	tools, err := legacyTools(dir)
	if err != nil {
		return err
	}
	access, file := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "kube-proxy.yaml")
	err = errors.Join(
		os.WriteFile(access, fmt.Appendf(nil, kubeconfig, listener.Addr()), 0o600),
		os.WriteFile(file, fmt.Appendf(nil, kubeProxyConfig, b.mode, access, node.Name), 0o600))
	if err != nil {
		return err
	}
	d, err := b.lab.Launch("kube-proxy-"+node.Name, node.Place, "env", "PATH="+tools+":"+os.Getenv("PATH"), binary, "--config="+file, "--v=2")
	if err != nil {
		return err
	}
	last := b.cluster.vip(b.cluster.services - 1)
	err = testbed.Until(ctx, manyLimit, func() error {
		if err := d.Running(); err != nil {
			return err
		}
		// One transaction writes all rules: when the last service answers, all do.
		return answers(node.Place, last)
	})
	return errors.Join(err, d.Stop())
}

// legacyTools makes a folder in which iptables is the one that speaks to the
// kernel's own tables. The other one, which translates to nftables, works off
// the rules of very many services for minutes, and its rules match slower.
func legacyTools(dir string) (string, error) {
	tools := filepath.Join(dir, "tools")
	if err := os.MkdirAll(tools, 0o700); err != nil {
		return "", err
	}
	for _, verb := range []string{"", "-save", "-restore"} {
		for _, family := range []string{"iptables", "ip6tables"} {
			legacy, err := exec.LookPath(family + "-legacy" + verb)
			if err == nil {
				err = os.Symlink(legacy, filepath.Join(tools, family+verb))
			}
			if err != nil {
				return "", err
			}
		}
	}
	return tools, nil
}

// describe counts what was written, and says where in the chain that every new
// connection walks the workloads' service stands.
func (b *bridge) describe(ctx context.Context, binary string) error {
	node := b.lab.Nodes["node1"]
	version, err := node.Run(ctx, binary, "--version")
	if err != nil {
		return err
	}
	list, tool := []string{"nft", "list", "ruleset"}, []string{"nft", "--version"}
	if b.mode == "iptables" {
		list, tool = []string{"iptables-legacy-save"}, []string{"iptables-legacy", "--version"}
	}
	rules, err := node.Run(ctx, list...)
	if err != nil {
		return err
	}
	with, err := node.Run(ctx, tool...)
	if err != nil {
		return err
	}
	b.rules = fmt.Sprintf("rules by the real kube-proxy (%s, %s; objects from a stand-in API), then kube-proxy was ended: %d lines in %q",
		strings.TrimSpace(version), strings.TrimSpace(with), strings.Count(rules, "\n"), strings.Join(list, " "))
	if at, of := position(rules, b.cluster.vip(nearService).Addr().String()); of > 0 {
		b.rules += fmt.Sprintf("\nthe workloads' local service is rule %d of %d in KUBE-SERVICES (kube-proxy's order is random)", at, of)
	}
	return nil
}

// position finds an address among the rules of KUBE-SERVICES.
func position(rules, address string) (at, of int) {
	for line := range strings.Lines(rules) {
		if !strings.HasPrefix(line, "-A KUBE-SERVICES ") {
			continue
		}
		if of++; at == 0 && strings.Contains(line, " "+address+"/32 ") {
			at = of
		}
	}
	return at, of
}

// apiServer answers what kube-proxy asks of Kubernetes' API: lists of the
// cluster's objects, which never change. Watches stay open and silent.
func apiServer(c cluster) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodGet { // events
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte("{}"))
			return
		}
		if watches := r.URL.Query().Get("watch"); watches == "true" || watches == "1" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(time.Hour):
			}
			return
		}
		kind, version := kindOf(r.URL.Path)
		items := c.list(kind)
		if name, ok := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name="); ok {
			items = named(items, name)
		}
		if items == nil {
			items = []object{}
		}
		_ = json.NewEncoder(w).Encode(object{
			"apiVersion": version, "kind": kind + "List", "metadata": object{"resourceVersion": "1"}, "items": items,
		})
	})
}

// kindOf turns a path of the API into a kind: /api/v1/services is Service of v1.
func kindOf(path string) (kind, version string) {
	kinds := map[string]string{
		"services": "Service", "endpointslices": "EndpointSlice", "nodes": "Node", "servicecidrs": "ServiceCIDR",
	}
	dir, resource := filepath.Split(path)
	version = strings.TrimPrefix(strings.TrimPrefix(strings.Trim(dir, "/"), "apis/"), "api/")
	return kinds[resource], version
}

func named(items []object, name string) []object {
	var found []object
	for _, i := range items {
		if i["metadata"].(object)["name"] == name {
			found = append(found, i)
		}
	}
	return found
}
