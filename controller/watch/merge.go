package watch

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vragent/vragent/controller/plan"
)

// objectKey names an object of any kind.
type objectKey struct{ kind, namespace, name string }

func (k objectKey) String() string {
	if k.namespace == "" {
		return k.kind + " " + k.name
	}
	return k.kind + " " + k.namespace + "/" + k.name
}

// merger puts the files' objects together. An object that is defined twice, or
// that has the UID of another, counts the first time, in the order of the
// files' names.
type merger struct {
	out      *plan.Cluster
	names    map[objectKey]string // → file
	uids     map[[2]string]objectKey
	born     map[objectKey]time.Time
	problems []plan.Problem
}

func merge(files map[string]*file) *merger {
	m := &merger{
		out:   &plan.Cluster{},
		names: map[objectKey]string{},
		uids:  map[[2]string]objectKey{},
		born:  map[objectKey]time.Time{},
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		c := files[name].good
		if c == nil {
			continue
		}
		admit(m, name, &m.out.Namespaces, c.Namespaces, func(o *plan.Namespace) (string, *plan.Meta) { return "Namespace", &o.Meta })
		admit(m, name, &m.out.Nodes, c.Nodes, func(o *plan.Node) (string, *plan.Meta) { return "Node", &o.Meta })
		admit(m, name, &m.out.Pods, c.Pods, func(o *plan.Pod) (string, *plan.Meta) { return "Pod", &o.Meta })
		admit(m, name, &m.out.Services, c.Services, func(o *plan.Service) (string, *plan.Meta) { return "Service", &o.Meta })
		admit(m, name, &m.out.Slices, c.Slices, func(o *plan.EndpointSlice) (string, *plan.Meta) { return "EndpointSlice", &o.Meta })
		admit(m, name, &m.out.VirtualNetworks, c.VirtualNetworks, func(o *plan.VirtualNetwork) (string, *plan.Meta) { return "VirtualNetwork", &o.Meta })
		admit(m, name, &m.out.Pools, c.Pools, func(o *plan.FloatingIPPool) (string, *plan.Meta) { return "FloatingIPPool", &o.Meta })
		admit(m, name, &m.out.Unserved, c.Unserved, func(o *plan.Unserved) (string, *plan.Meta) { return o.Kind, &o.Meta })
	}
	return m
}

func admit[T any](m *merger, file string, out *[]T, in []T, identity func(*T) (string, *plan.Meta)) {
	for i := range in {
		kind, o := identity(&in[i])
		k := objectKey{kind, o.Namespace, o.Name}
		if first, again := m.names[k]; again {
			m.problem(k, fmt.Sprintf("is in %s and again in %s; the first one counts", first, file))
			continue
		}
		if other, again := m.uids[[2]string{kind, o.UID}]; again {
			m.problem(k, fmt.Sprintf("in %s has the UID of %v, %s; it is left out", file, other, o.UID))
			continue
		}
		m.names[k] = file
		m.uids[[2]string{kind, o.UID}] = k
		m.born[k] = o.Created
		*out = append(*out, in[i])
	}
}

func (m *merger) problem(k objectKey, sentence string) {
	m.problems = append(m.problems, plan.Problem{Object: k.String(), Sentence: sentence})
}
