// Package figures is the arithmetic of a benchmark: samples, medians, spread,
// ratios against targets, and the drawing of them. It is pure: the samples belong to
// the caller, who may have read them from a file of an earlier run. It measures
// nothing and knows no subject but by name.
package figures

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Cell names what is measured: one workload on one path through one subject.
type Cell struct{ Subject, Workload, Path string }

func (c Cell) String() string { return c.Subject + " " + c.Workload + " " + c.Path }

// Sample is one run of a workload.
type Sample struct {
	Round int // from 1
	Cell
	Values  map[string]float64 // by metric: gbps, p50, cpu_s
	Missing string             // why there are no values; then Values is empty
}

// String is the sample as a line of a results file.
func (s Sample) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", s.Round, s.Cell)
	for _, k := range slices.Sorted(maps.Keys(s.Values)) {
		fmt.Fprintf(&b, " %s=%s", k, strconv.FormatFloat(s.Values[k], 'g', 6, 64))
	}
	if s.Missing != "" {
		fmt.Fprintf(&b, " missing=%q", strings.Join(strings.Fields(s.Missing), " "))
	}
	return b.String()
}

// Parse reads a line that String wrote.
func Parse(line string) (Sample, error) {
	line, missing, _ := strings.Cut(line, " missing=")
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return Sample{}, fmt.Errorf("%q: want round, subject, workload, path", line)
	}
	s := Sample{Cell: Cell{fields[1], fields[2], fields[3]}, Values: map[string]float64{}}
	var err error
	if s.Round, err = strconv.Atoi(fields[0]); err != nil {
		return Sample{}, fmt.Errorf("%q: round: %w", line, err)
	}
	for _, f := range fields[4:] {
		key, text, _ := strings.Cut(f, "=")
		if s.Values[key], err = strconv.ParseFloat(text, 64); err != nil {
			return Sample{}, fmt.Errorf("%q: %s: %w", line, key, err)
		}
	}
	if missing != "" {
		if s.Missing, err = strconv.Unquote(missing); err != nil {
			return Sample{}, fmt.Errorf("%q: missing: %w", line, err)
		}
	}
	return s, nil
}

// Series are the samples of a run, by cell.
type Series map[Cell][]Sample

// Add puts samples in.
func (r Series) Add(samples ...Sample) {
	for _, s := range samples {
		r[s.Cell] = append(r[s.Cell], s)
	}
}

// Values are those of one metric in one cell, in the order of the rounds.
func (r Series) Values(c Cell, metric string) []float64 {
	var v []float64
	for _, s := range r[c] {
		if x, ok := s.Values[metric]; ok {
			v = append(v, x)
		}
	}
	return v
}

// Summary is what many rounds say of one metric.
type Summary struct {
	N                int // samples; 0: nothing was measured
	Median, Min, Max float64
}

// Summarize finds the median, the mean of the middle two if their number is even.
func Summarize(values []float64) Summary {
	n := len(values)
	if n == 0 {
		return Summary{}
	}
	v := slices.Sorted(slices.Values(values))
	return Summary{N: n, Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

// Spread is half the range, in percent of the median: 12 means ±12 %.
func (s Summary) Spread() float64 {
	if s.Median == 0 {
		return 0
	}
	return (s.Max - s.Min) / 2 / s.Median * 100
}

// Of summarizes one metric of one cell.
func (r Series) Of(c Cell, metric string) Summary { return Summarize(r.Values(c, metric)) }

// Short writes a figure as tables and plots show it: three digits, never an exponent.
func Short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
