package figures

import (
	"fmt"
	"math"
)

// Target is a line that is to be reached: a ratio of medians of one run.
type Target struct {
	What    string // for people
	Cell           // ours
	Metric  string
	Against []Cell // the best of those that were measured counts
	AtLeast float64
	AtMost  float64 // instead, where less is better (latency); 0: AtLeast counts
}

// Verdict is a target held against a run.
type Verdict struct {
	Target
	Ours, Theirs float64
	Best         Cell // of Against
	Ratio        float64
	Missing      string // what was not measured; then there is no ratio
}

// Reached says whether the line was reached.
func (v Verdict) Reached() bool {
	switch {
	case v.Missing != "":
		return false
	case v.AtMost != 0:
		return v.Ratio <= v.AtMost
	}
	return v.Ratio >= v.AtLeast
}

// Word is the last column of the table.
func (v Verdict) Word() string {
	switch {
	case v.Missing != "":
		return "-"
	case v.Reached():
		return "yes"
	}
	return "NO"
}

// Line is what the ratio has to be.
func (v Verdict) Line() string {
	if v.AtMost != 0 {
		return fmt.Sprintf("<= %.2f", v.AtMost)
	}
	return fmt.Sprintf(">= %.2f", v.AtLeast)
}

// Judge holds a target against a run. Of several baselines the best one is
// taken: the smallest latency, else the greatest rate.
func Judge(r Series, t Target) Verdict {
	v := Verdict{Target: t}
	ours := r.Of(t.Cell, t.Metric)
	if ours.N == 0 {
		v.Missing = t.Cell.String() + " was not measured"
		return v
	}
	v.Ours = ours.Median
	v.Theirs = math.NaN()
	for _, c := range t.Against {
		s := r.Of(c, t.Metric)
		if s.N == 0 {
			continue
		}
		if math.IsNaN(v.Theirs) || (t.AtMost != 0) == (s.Median < v.Theirs) {
			v.Theirs, v.Best = s.Median, c
		}
	}
	if math.IsNaN(v.Theirs) || v.Theirs == 0 {
		v.Missing = fmt.Sprintf("%v was not measured", t.Against)
		return v
	}
	v.Ratio = v.Ours / v.Theirs
	return v
}

// Floor is what a baseline has to do for a run to count: below it, the machine
// was not free, and every ratio is worth nothing.
type Floor struct {
	Cell
	Metric  string
	AtLeast float64
}

// Void says why a run does not count, by its floors; unknown are the floors whose
// baseline was not measured.
func Void(r Series, floors []Floor) (void, unknown []string) {
	for _, f := range floors {
		s := r.Of(f.Cell, f.Metric)
		switch {
		case s.N == 0:
			unknown = append(unknown, fmt.Sprintf("%v was not measured; its floor is %.3g %s", f.Cell, f.AtLeast, f.Metric))
		case s.Median < f.AtLeast:
			void = append(void, fmt.Sprintf("%v reached %.3g %s, below its floor of %.3g", f.Cell, s.Median, f.Metric, f.AtLeast))
		}
	}
	return void, unknown
}
