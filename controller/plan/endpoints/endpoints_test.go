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
// serves while it terminates; all others finish what they have, of datagrams only
// those that serve.
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
	for _, c := range []struct {
		are, want string
		protocol  uint8
	}{
		{"ready", "ready", cluster.TCP},
		{"silent", "silent", cluster.TCP},
		{"ready terminating serving gone", "(gone) ready (serving) (terminating)", cluster.TCP},
		{"terminating serving gone", "(gone) (serving) terminating", cluster.TCP},
		{"terminating old", "old terminating", cluster.TCP},
		{"serving starting", "(serving) (starting)", cluster.TCP},
		{"starting gone", "(gone) (starting)", cluster.TCP},
		{"ready serving starting gone", "ready (serving)", cluster.UDP},
		{"starting gone", "", cluster.UDP},
	} {
		slice := cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: c.protocol, Port: 80}}}
		for _, kind := range strings.Fields(c.are) {
			e := kinds[kind]
			e.Address, e.Pod = netip.MustParseAddr("192.0.2.1"), &cluster.PodRef{Name: kind}
			slice.Endpoints = append(slice.Endpoints, e)
		}
		var got []string
		for _, x := range Merge(&cluster.Service{}, cluster.ServicePort{Name: "http", Protocol: c.protocol}, false, []cluster.EndpointSlice{slice}) {
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
