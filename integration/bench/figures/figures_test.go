package figures

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSummaryIsTheMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Summary
	}{
		{nil, Summary{}},
		{[]float64{3}, Summary{1, 3, 3, 3}},
		{[]float64{1, 100}, Summary{2, 50.5, 1, 100}},
		{[]float64{9, 1, 5}, Summary{3, 5, 1, 9}},
		{[]float64{4, 1, 3, 2}, Summary{4, 2.5, 1, 4}},
	} {
		for range 10 { // the order does not matter, and the input stays as it is
			v := slices.Clone(c.values)
			rand.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
			before := slices.Clone(v)
			if got := Summarize(v); got != c.want {
				t.Errorf("Summarize(%v) = %+v, want %+v", v, got, c.want)
			}
			if !slices.Equal(v, before) {
				t.Errorf("Summarize changed its input to %v", v)
			}
		}
	}
	if got := (Summary{3, 10, 8, 13}).Spread(); got != 25 {
		t.Errorf("spread %v, want 25", got)
	}
	if got := (Summary{}).Spread(); got != 0 {
		t.Errorf("spread of nothing: %v", got)
	}
}

func TestSampleSurvivesItsLine(t *testing.T) {
	for _, s := range []Sample{
		{Round: 1, Cell: Cell{"ours-off", "tcp1", "local"}, Values: map[string]float64{"gbps": 1.25, "cpu_s": 0.0125}},
		{Round: 5, Cell: Cell{"ovs", "udp-pps", "local"}, Values: map[string]float64{}, Missing: `it said: "no" = never`},
	} {
		got, err := Parse(s.String())
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%q became %+v, %v", s, got, err)
		}
	}
	for _, line := range []string{"", "1 a b", "x a b c", "1 a b c gbps=fast", "1 a b c gbps", `1 a b c missing="`} {
		if s, err := Parse(line); err == nil {
			t.Errorf("%q was read as %+v", line, s)
		}
	}
}

func series(lines ...string) Series {
	r := Series{}
	for _, l := range lines {
		s, err := Parse(l)
		if err != nil {
			panic(err)
		}
		r.Add(s)
	}
	return r
}

func TestJudgeTakesTheBestBaseline(t *testing.T) {
	r := series(
		"1 ours rr vip p50=30 gbps=12", "2 ours rr vip p50=40 gbps=10", "3 ours rr vip p50=20 gbps=8",
		"1 ipt rr vip p50=60 gbps=5", "1 nft rr vip p50=50 gbps=8",
	)
	ours, ipt, nft, gone := Cell{"ours", "rr", "vip"}, Cell{"ipt", "rr", "vip"}, Cell{"nft", "rr", "vip"}, Cell{"gone", "rr", "vip"}
	for _, c := range []struct {
		target  Target
		ratio   float64
		best    Cell
		reached bool
	}{
		{Target{Cell: ours, Metric: "p50", Against: []Cell{ipt, nft}, AtMost: 0.6}, 0.6, nft, true},
		{Target{Cell: ours, Metric: "p50", Against: []Cell{nft, ipt}, AtMost: 0.59}, 0.6, nft, false},
		{Target{Cell: ours, Metric: "p50", Against: []Cell{gone, ipt}, AtMost: 0.5}, 0.5, ipt, true},
		{Target{Cell: ours, Metric: "gbps", Against: []Cell{ipt, nft}, AtLeast: 1.25}, 1.25, nft, true},
		{Target{Cell: ours, Metric: "gbps", Against: []Cell{nft, ipt}, AtLeast: 1.26}, 1.25, nft, false},
	} {
		v := Judge(r, c.target)
		if v.Missing != "" || v.Ratio != c.ratio || v.Best != c.best || v.Reached() != c.reached {
			t.Errorf("%+v: ratio %v against %v, reached %v, missing %q", c.target, v.Ratio, v.Best, v.Reached(), v.Missing)
		}
	}
}

// TestWhatWasNotMeasuredIsNeverReached: an absent figure has no ratio at all.
func TestWhatWasNotMeasuredIsNeverReached(t *testing.T) {
	r := series("1 ours rr vip p50=30", `1 theirs rr vip missing="it broke"`, "1 zero rr vip p50=0")
	for _, target := range []Target{
		{Cell: Cell{"ours", "rr", "vip"}, Metric: "p50", Against: []Cell{{"theirs", "rr", "vip"}}, AtMost: 9},
		{Cell: Cell{"ours", "rr", "vip"}, Metric: "p50", Against: []Cell{{"zero", "rr", "vip"}}, AtMost: 9},
		{Cell: Cell{"theirs", "rr", "vip"}, Metric: "p50", Against: []Cell{{"ours", "rr", "vip"}}, AtLeast: 0},
		{Cell: Cell{"ours", "rr", "vip"}, Metric: "p50", AtLeast: 0},
	} {
		if v := Judge(r, target); v.Missing == "" || v.Reached() || v.Word() != "-" {
			t.Errorf("%+v: %+v", target, v)
		}
	}
}

func TestRunBelowAFloorIsVoid(t *testing.T) {
	bridge := Floor{Cell{"bridge", "tcp1", "local"}, "gbps", 6}
	r := series("1 bridge tcp1 local gbps=5", "2 bridge tcp1 local gbps=7", "3 bridge tcp1 local gbps=6")
	if void, unknown := Void(r, []Floor{bridge}); len(void)+len(unknown) != 0 {
		t.Errorf("a median at the floor: %v, %v", void, unknown)
	}
	r.Add(series("4 bridge tcp1 local gbps=1")[bridge.Cell]...)
	if void, _ := Void(r, []Floor{bridge}); len(void) != 1 || !strings.Contains(void[0], "5.5") {
		t.Errorf("a median below the floor: %v", void)
	}
	if void, unknown := Void(Series{}, []Floor{bridge}); len(void) != 0 || len(unknown) != 1 {
		t.Errorf("nothing measured: %v, %v", void, unknown)
	}
}
