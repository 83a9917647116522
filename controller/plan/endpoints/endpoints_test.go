package endpoints

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vragent/vragent/controller/plan/cluster"
)

// What Kubernetes says of the conditions (discovery.k8s.io/v1): nil is ready,
// serving and not terminating. Who is ready takes new flows; if nobody is, who
// serves while it terminates; who serves otherwise finishes what it has.
func TestConditions(t *testing.T) {
	yes, no := true, false
	kinds := map[string]cluster.Endpoint{
		"silent":      {},
		"ready":       {Ready: &yes, Serving: &yes, Terminating: &no},
		"terminating": {Ready: &no, Serving: &yes, Terminating: &yes},
		"old":         {Ready: &no, Terminating: &yes}, // says nothing of serving
		"serving":     {Ready: &no, Serving: &yes, Terminating: &no},
		"gone":        {Ready: &no, Serving: &no, Terminating: &yes},
		"starting":    {Ready: &no, Serving: &no},
	}
	for _, c := range []struct{ are, want string }{
		{"ready", "ready"},
		{"silent", "silent"},
		{"ready terminating serving gone", "ready (serving) (terminating)"},
		{"terminating serving gone", "(serving) terminating"},
		{"terminating old", "old terminating"},
		{"serving starting", "(serving)"},
		{"starting gone", ""},
	} {
		slice := cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: 6, Port: 80}}}
		for _, kind := range strings.Fields(c.are) {
			e := kinds[kind]
			e.Address, e.Pod = netip.MustParseAddr("192.0.2.1"), &cluster.PodRef{Name: kind}
			slice.Endpoints = append(slice.Endpoints, e)
		}
		var got []string
		for _, x := range Merge(&cluster.Service{}, cluster.ServicePort{Name: "http", Protocol: 6}, false, []cluster.EndpointSlice{slice}) {
			if x.Draining {
				got = append(got, fmt.Sprintf("(%s)", x.Pod.Name))
			} else {
				got = append(got, x.Pod.Name)
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %s, want %s", c.are, text, c.want)
		}
	}
}
