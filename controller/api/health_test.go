package api

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestProbes(t *testing.T) {
	ready := false
	s := New(Config{Ready: func() bool { return ready }, Log: slog.New(slog.DiscardHandler)})
	probe := func(path string) int {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	if probe("/healthz") != http.StatusOK || probe("/readyz") != http.StatusServiceUnavailable {
		t.Error("alive and not ready is", probe("/healthz"), probe("/readyz"))
	}
	if ready = true; probe("/readyz") != http.StatusOK {
		t.Error("ready is", probe("/readyz"))
	}
}

func TestRepair(t *testing.T) {
	var asked int
	var refuse error
	s := New(Config{
		IPAM:   func() IPAM { return IPAM{Blocks: 7, Findings: []Finding{}} },
		Repair: func() (IPAM, error) { asked++; return IPAM{Findings: []Finding{{Release: []string{"a", "b"}}}}, refuse },
		Log:    slog.New(slog.DiscardHandler),
	})
	do := func(method, path, kind string) (int, string) {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if code, body := do(http.MethodGet, "/ipam", ""); code != http.StatusOK || !strings.Contains(body, `"blocks": 7`) {
		t.Error(code, body)
	}
	if code, _ := do(http.MethodPost, "/ipam/repair", "text/plain"); code != http.StatusUnsupportedMediaType || asked != 0 {
		t.Error("a browser's page may repair:", code)
	}
	if code, body := do(http.MethodPost, "/ipam/repair", "application/json"); code != http.StatusOK || asked != 1 {
		t.Error(code, body)
	}
	refuse = errors.New("ask vrcontroller-x")
	if code, body := do(http.MethodPost, "/ipam/repair", "application/json"); code != http.StatusConflict || !strings.Contains(body, "ask vrcontroller-x") {
		t.Error(code, body)
	}
	if code, _ := do(http.MethodPost, "/ipam", "application/json"); code != http.StatusMethodNotAllowed {
		t.Error(code)
	}
}

// Every problem that the status itself knows comes with what to do.
func TestJudge(t *testing.T) {
	for name, x := range map[string]struct {
		status Status
		want   []string // parts of "object: problem → fix", one per problem
	}{
		"well": {Status{
			APIServer: &APIServer{Connected: true, Leader: Leader{Name: "x"}},
			Agents:    []Agent{{Node: "n1", State: "connected"}, {Node: "n2", State: "replaying"}, {Node: "n3", State: "standby"}},
			Notices:   []Problem{{Object: "o", Problem: "p"}},
		}, nil},
		"a problem": {Status{Problems: []Problem{{Object: "Service a/b", Problem: "p"}}}, []string{"Service a/b: p"}},
		"no API server": {Status{APIServer: &APIServer{Address: "https://192.0.2.1", Error: "refused", Waiting: []string{"pods"}}},
			[]string{"API server https://192.0.2.1: does not serve this controller, which has never read pods: refused → look at kube-apiserver"}},
		"no leader": {Status{APIServer: &APIServer{Connected: true}}, []string{"Leader: no replica holds the Lease, so that nothing is written → if it stays so: kubectl -n ns get pods"}},
		"agents": {Status{APIServer: &APIServer{Connected: true, Leader: Leader{Name: "x"}}, Agents: []Agent{
			{Node: "n1", State: "absent"}, {Node: "n2", State: "stale"}, {Node: "n3", State: "unknown"}, {Node: "n4", State: "connected", Refusals: []string{"TYPE_VMI x: no"}},
		}}, []string{"Node n1: no agent has connected → look at its agent: kubectl -n ns get pods -o wide --field-selector spec.nodeName=n1", "Node n2: its agent is lost",
			"Node n3: its agent is connected, but the cluster has no such node", "Node n4: refuses TYPE_VMI x: no"}},
		"no Kubernetes": {Status{Agents: []Agent{{Node: "n1", State: "absent"}}}, []string{"→ look at its vragent: systemctl status vragent"}},
	} {
		s := x.status
		s.Judge("ns")
		if s.Healthy != (len(x.want) == 0) || len(s.Problems) != len(x.want) {
			t.Errorf("%s: %+v", name, s.Problems)
			continue
		}
		for i, p := range s.Problems {
			if text := p.Object + ": " + p.Problem + " → " + p.Fix; !strings.Contains(text, x.want[i]) {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}
