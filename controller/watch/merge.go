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
		m.out.Namespaces = append(m.out.Namespaces, admit(m, name, "Namespace", c.Namespaces, func(o *plan.Namespace) *plan.Meta { return &o.Meta })...)
		m.out.Nodes = append(m.out.Nodes, admit(m, name, "Node", c.Nodes, func(o *plan.Node) *plan.Meta { return &o.Meta })...)
		m.out.Pods = append(m.out.Pods, admit(m, name, "Pod", c.Pods, func(o *plan.Pod) *plan.Meta { return &o.Meta })...)
		m.out.Services = append(m.out.Services, admit(m, name, "Service", c.Services, func(o *plan.Service) *plan.Meta { return &o.Meta })...)
		m.out.Slices = append(m.out.Slices, admit(m, name, "EndpointSlice", c.Slices, func(o *plan.EndpointSlice) *plan.Meta { return &o.Meta })...)
	}
	return m
}

func admit[T any](m *merger, file, kind string, in []T, meta func(*T) *plan.Meta) []T {
	var out []T
	for i := range in {
		o := meta(&in[i])
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
		out = append(out, in[i])
	}
	return out
}

func (m *merger) problem(k objectKey, sentence string) {
	m.problems = append(m.problems, plan.Problem{Object: k.String(), Sentence: sentence})
}
