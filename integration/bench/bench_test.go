package main

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/integration/bench/figures"
)

// TestEveryCellIsMeasured: a target or a floor that nobody is asked to run would
// never be reached, and nobody would notice.
func TestEveryCellIsMeasured(t *testing.T) {
	for _, e := range lineEntrants() {
		for _, k := range e.tasks {
			if workloadAt(lineWorkloads(), k.workload) < 0 {
				t.Fatalf("%s is asked for %s, which is no workload", e.name, k.workload)
			}
		}
	}
	metrics := map[figures.Cell][]string{}
	for _, e := range entrants() {
		for _, k := range e.tasks {
			i := workloadAt(workloads(), k.workload)
			if i < 0 {
				t.Fatalf("%s is asked for %s, which is no workload", e.name, k.workload)
			}
			cell := figures.Cell{Subject: e.name, Workload: k.workload, Path: k.path}
			if metrics[cell] != nil {
				t.Errorf("%v is measured twice a round", cell)
			}
			metrics[cell] = workloads()[i].metrics
		}
	}
	want := func(c figures.Cell, metric string) {
		if !slices.Contains(metrics[c], metric) {
			t.Errorf("%v: nobody measures %s", c, metric)
		}
	}
	for _, target := range targets() {
		want(target.Cell, target.Metric)
		for _, c := range target.Against {
			want(c, target.Metric)
		}
		if (target.AtLeast == 0) == (target.AtMost == 0) {
			t.Errorf("%+v: one line, not two or none", target)
		}
	}
	for _, f := range floors() {
		want(f.Cell, f.Metric)
	}
}

func TestChoose(t *testing.T) {
	name := func(s string) string { return s }
	all := []string{"a", "b", "c"}
	for _, c := range []struct {
		asked string
		want  []string
	}{{"", all}, {"c,a", []string{"c", "a"}}, {" b ", []string{"b"}}} {
		if got, err := choose(all, name, c.asked); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("choose %q: %v, %v", c.asked, got, err)
		}
	}
	if _, err := choose(all, name, "a,d"); err == nil || !strings.Contains(err.Error(), "known: a, b, c") {
		t.Errorf("an unknown name: %v", err)
	}
}

// TestEveryServiceHasItsOwnAddress, also the last of very many.
func TestEveryServiceHasItsOwnAddress(t *testing.T) {
	c := cluster{services: many, near: podAddress(1, 3), far: podAddress(2, 3)}
	seen := map[netip.AddrPort]bool{}
	for i := range c.services {
		seen[c.vip(i)] = true
	}
	if len(seen) != many {
		t.Errorf("%d addresses for %d services", len(seen), many)
	}
	for address := range seen {
		if !netip.MustParsePrefix("10.96.0.0/12").Contains(address.Addr()) {
			t.Fatalf("%v is no address of a service", address)
		}
	}
	for service, backend := range map[int]string{nearService: "near", farService: "far"} {
		ends := c.slice(service)["endpoints"].([]object)
		if len(ends) != 1 || ends[0]["targetRef"].(object)["name"] != backend {
			t.Errorf("service %d leads to %v, want %s alone: its path must be known", service, ends, backend)
		}
	}
}

func TestStandInForTheAPI(t *testing.T) {
	s := httptest.NewServer(apiServer(cluster{services: few, near: podAddress(1, 3), far: podAddress(2, 3)}))
	defer s.Close()
	for _, c := range []struct {
		path, kind, version string
		items               int
	}{
		{"/api/v1/services?limit=500&resourceVersion=0", "ServiceList", "v1", few},
		{"/apis/discovery.k8s.io/v1/endpointslices", "EndpointSliceList", "discovery.k8s.io/v1", few},
		{"/api/v1/nodes?fieldSelector=metadata.name%3Dnode2", "NodeList", "v1", 1},
		{"/apis/networking.k8s.io/v1/servicecidrs", "ServiceCIDRList", "networking.k8s.io/v1", 0},
	} {
		r, err := http.Get(s.URL + c.path)
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			Kind, APIVersion string
			Items            []object
		}
		err = json.NewDecoder(r.Body).Decode(&list)
		_ = r.Body.Close()
		if err != nil || list.Kind != c.kind || list.APIVersion != c.version || list.Items == nil || len(list.Items) != c.items {
			t.Errorf("%s: %s of %s with %d items, %v", c.path, list.Kind, list.APIVersion, len(list.Items), err)
		}
	}
}

func TestPositionOfAService(t *testing.T) {
	rules := `-A KUBE-SERVICES -d 10.97.0.11/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A
-A KUBE-OTHER -d 10.97.0.1/32
-A KUBE-SERVICES -d 10.97.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-B
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
`
	if at, of := position(rules, "10.97.0.1"); at != 2 || of != 3 {
		t.Errorf("rule %d of %d, want 2 of 3", at, of)
	}
	if at, of := position("table ip kube-proxy {\n}\n", "10.97.0.1"); at != 0 || of != 0 {
		t.Errorf("nftables: rule %d of %d", at, of)
	}
}

// TestReportOfAShortRun: what was not measured is missing, never a number.
func TestReportOfAShortRun(t *testing.T) {
	c := &contest{options: &options{rounds: 2}, entrants: entrants(), workloads: workloads(), samples: figures.Series{}}
	add := func(round int, subject, workload, path string, v map[string]float64, missing string) {
		c.samples.Add(figures.Sample{Round: round, Cell: figures.Cell{Subject: subject, Workload: workload, Path: path}, Values: v, Missing: missing})
	}
	for round, g := range []float64{8, 10} {
		add(round+1, "bridge", bulk1, local, map[string]float64{gbps: g, cpuUnit: 0.25}, "")
		add(round+1, "ours-auto", bulk1, local, map[string]float64{gbps: g + 1, cpuUnit: 0.25}, "")
		add(round+1, "ovs", bulk1, local, nil, "no such program")
	}
	tables := c.tables()
	for _, want := range []string{"bridge         9.00 ±11% (0.25)", "ours-auto      10.0 ±10% (0.25)", "ovs            missing"} {
		if !strings.Contains(tables, want) {
			t.Errorf("no %q in\n%s", want, tables)
		}
	}
	if strings.Contains(tables, "loopback") {
		t.Errorf("a subject that was not asked has a line:\n%s", tables)
	}
	reached, unknown := 0, 0
	for line := range strings.Lines(c.ratios()) {
		switch {
		case strings.HasSuffix(line, " yes\n"):
			reached++
			if !strings.Contains(line, "1.11") {
				t.Errorf("the ratio is not of the medians: %s", line)
			}
		case strings.HasSuffix(line, " -\n"):
			unknown++
		}
	}
	if reached != 1 || unknown != len(targets())-1 {
		t.Errorf("%d lines reached and %d unknown of %d", reached, unknown, len(targets()))
	}
	if err := wellFormed(figures.Plot(c.panels())); err != nil {
		t.Error(err)
	}
	if svg := figures.Plot(c.panels()); strings.Count(svg, `<rect class="ours"`) != 1 || strings.Count(svg, `<rect class="other"`) != 1 {
		t.Errorf("the plot has other bars:\n%s", svg)
	}
}

func wellFormed(text string) error {
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// TestRunFitsIntoHalfAnHour keeps the whole of it from growing.
func TestRunFitsIntoHalfAnHour(t *testing.T) {
	c := &contest{options: &options{factor: 1}, entrants: entrants(), workloads: workloads()}
	if five := 5 * c.length(); five > 28*time.Minute { // the rest is for very many services
		t.Errorf("five rounds take %v", five)
	}
	t.Log(5 * c.length())
}
