package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"github.com/vragent/vragent/integration/testbed"
)

// cluster is the Kubernetes objects of the benchmark: the same for our controller,
// which reads them as manifests, and for kube-proxy, which lists them from an API.
type cluster struct {
	services  int        // at least two
	near, far netip.Addr // of the servers' pods
}

// Services of the workloads, by number; the others are there to be many.
const (
	nearService = 0 // backend: the server on the client's node
	farService  = 1 // backend: the server on the other node
)

func nodes() []string { return []string{"node1", "node2"} }

type podName struct{ name, node string }

// podNames in the order they are attached.
func podNames() []podName {
	return []podName{{"client", "node1"}, {"near", "node1"}, {"far", "node2"}}
}

// object is a Kubernetes object as JSON has it.
type object = map[string]any

// vip of the i-th service: 10.97.0.10 and on.
func (c cluster) vip(i int) netip.AddrPort {
	n := i + 10
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 97, byte(n >> 8), byte(n)}), servicePort)
}

func serviceName(i int) string {
	switch i {
	case nearService:
		return "near"
	case farService:
		return "far"
	}
	return fmt.Sprintf("other-%d", i)
}

// list returns all objects of a kind, nil for kinds that the benchmark has none of.
func (c cluster) list(kind string) []object {
	var all []object
	switch kind {
	case "Namespace":
		all = append(all, object{"apiVersion": "v1", "kind": kind, "metadata": object{"name": testbed.Namespace}})
	case "Node":
		for i, n := range nodes() {
			all = append(all, object{"apiVersion": "v1", "kind": kind, "metadata": object{"name": n, "uid": n},
				"status": object{"addresses": []object{{"type": "InternalIP", "address": fmt.Sprintf("172.31.0.%d", 11+i)}}}})
		}
	case "Pod":
		for _, p := range podNames() {
			all = append(all, object{"apiVersion": "v1", "kind": kind, "metadata": meta(p.name, nil),
				"spec": object{"nodeName": p.node, "containers": []object{{"name": "load", "image": "example.com/load"}}}})
		}
	case "Service":
		for i := range c.services {
			all = append(all, c.service(i))
		}
	case "EndpointSlice":
		for i := range c.services {
			all = append(all, c.slice(i))
		}
	}
	return all
}

func meta(name string, labels object) object {
	m := object{"namespace": testbed.Namespace, "name": name, "uid": name, "resourceVersion": "1"}
	if labels != nil {
		m["labels"] = labels
	}
	return m
}

func (c cluster) service(i int) object {
	ip := c.vip(i).Addr().String()
	return object{"apiVersion": "v1", "kind": "Service", "metadata": meta(serviceName(i), nil), "spec": object{
		"type": "ClusterIP", "clusterIP": ip, "clusterIPs": []string{ip}, "ipFamilies": []string{"IPv4"},
		"sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
		"ports": ports(i, object{"port": servicePort, "targetPort": port}),
	}}
}

// ports of a service, or of its slice: TCP, and UDP for those of the workloads.
func ports(i int, also object) []object {
	var list []object
	for _, name := range []string{"tcp", "udp"} {
		if name == "udp" && i != nearService && i != farService {
			continue
		}
		p := object{"name": name, "protocol": strings.ToUpper(name)}
		maps.Copy(p, also)
		list = append(list, p)
	}
	return list
}

// slice of the i-th service: one backend for those of the workloads, so that the
// path is known; both for the others.
func (c cluster) slice(i int) object {
	var ends []object
	for _, e := range []struct {
		pod, node string
		ip        netip.Addr
		not       int // the service whose backend this is not
	}{{"near", "node1", c.near, farService}, {"far", "node2", c.far, nearService}} {
		if i != e.not {
			ends = append(ends, object{"addresses": []string{e.ip.String()}, "nodeName": e.node,
				"conditions": object{"ready": true, "serving": true, "terminating": false},
				"targetRef":  object{"kind": "Pod", "namespace": testbed.Namespace, "name": e.pod}})
		}
	}
	return object{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata":  meta(serviceName(i)+"-1", object{"kubernetes.io/service-name": serviceName(i)}),
		"ports":     ports(i, object{"port": port}),
		"endpoints": ends}
}

// manifest is all of it as one file of YAML, of which JSON is a part.
func (c cluster) manifest() []byte {
	var text []byte
	for _, kind := range []string{"Namespace", "Node", "Pod", "Service", "EndpointSlice"} {
		for _, o := range c.list(kind) {
			line, err := json.Marshal(o)
			if err != nil {
				panic(err) // maps of strings and numbers always have a form
			}
			text = append(append(append(text, "---\n"...), line...), '\n')
		}
	}
	return text
}
