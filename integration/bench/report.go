package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vragent/vragent/integration/bench/figures"
)

// report prints the tables and writes every file of the results. A void run says
// so last, and fails.
func (c *contest) report(about string) error {
	tables := c.tables()
	var void, unknown []string
	if !c.options.line {
		tables += c.ratios()
		void, unknown = figures.Void(c.samples, floors())
	}
	fmt.Print("\n", tables)
	var verdict strings.Builder
	for _, u := range unknown {
		fmt.Fprintln(&verdict, "floor not checked:", u)
	}
	for _, v := range void {
		fmt.Fprintln(&verdict, "VOID:", v)
	}
	fmt.Print(verdict.String())
	for name, text := range map[string]string{
		"machine.txt":  about,
		"subjects.txt": c.configurations(),
		"tables.txt":   tables + verdict.String(),
		"plot.svg":     figures.Plot(c.panels()),
	} {
		if err := os.WriteFile(filepath.Join(c.out, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	c.say("results in %s", c.out)
	switch missing := c.lost(); {
	case c.smoke && len(missing) > 0:
		return fmt.Errorf("%d samples are missing: %s", len(missing), strings.Join(missing, "; "))
	case !c.smoke && len(void) > 0:
		return fmt.Errorf("%w: %s", errVoid, strings.Join(void, "; "))
	}
	return nil
}

// lost are the samples that should be there.
func (c *contest) lost() (missing []string) {
	for _, samples := range c.samples {
		for _, s := range samples {
			if s.Missing != "" {
				missing = append(missing, s.String())
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// configurations says how every subject was set up.
func (c *contest) configurations() string {
	var t strings.Builder
	for _, e := range c.entrants {
		fmt.Fprintf(&t, "%s: %s\n", e.name, e.what)
		text := c.settings[e.name]
		if why := c.broken[e.name]; why != "" {
			text += fmt.Sprintf("\nnot available (%d times): %s", c.tries[e.name], why)
		}
		for line := range strings.Lines(strings.TrimSpace(text)) {
			fmt.Fprintf(&t, "    %s\n", strings.TrimRight(line, "\n"))
		}
		t.WriteString("\n")
	}
	return t.String()
}

// tables has one block per workload: a line for each subject, a column for each
// path.
func (c *contest) tables() string {
	var t strings.Builder
	for _, w := range c.workloads {
		paths := c.pathsOf(w.name)
		if len(paths) == 0 {
			continue
		}
		fmt.Fprintf(&t, "%s; spread; (CPU s per %s)\n  %-14s", w.title, w.unit, "")
		for _, p := range paths {
			fmt.Fprintf(&t, " %-30s", p)
		}
		t.WriteString("\n")
		for _, e := range c.entrants {
			t.WriteString(c.line(w, e, paths))
		}
		t.WriteString("\n")
	}
	return t.String()
}

// line is a subject's line, "" if it never does this workload.
func (c *contest) line(w workload, e entrant, paths []string) string {
	var t strings.Builder
	has := false
	fmt.Fprintf(&t, "  %-14s", e.name)
	for _, p := range paths {
		cell := figures.Cell{Subject: e.name, Workload: w.name, Path: p}
		text := ""
		if len(c.samples[cell]) > 0 {
			text, has = c.cell(w, cell), true
		}
		fmt.Fprintf(&t, " %-30s", text)
	}
	if !has {
		return ""
	}
	return strings.TrimRight(t.String(), " ") + "\n"
}

func (c *contest) cell(w workload, cell figures.Cell) string {
	var values []string
	first := c.samples.Of(cell, w.metrics[0])
	if first.N == 0 {
		return "missing"
	}
	for _, m := range w.metrics {
		values = append(values, figures.Short(c.samples.Of(cell, m).Median))
	}
	return fmt.Sprintf("%s ±%.0f%% (%s)", strings.Join(values, "/"), first.Spread(), figures.Short(c.samples.Of(cell, cpuUnit).Median))
}

// pathsOf are those on which anybody was measured.
func (c *contest) pathsOf(workload string) []string {
	var paths []string
	for _, p := range allPaths {
		for _, e := range c.entrants {
			if len(c.samples[figures.Cell{Subject: e.name, Workload: workload, Path: p}]) > 0 {
				paths = append(paths, p)
				break
			}
		}
	}
	return paths
}

// ratios is the table of the lines to reach.
func (c *contest) ratios() string {
	var t strings.Builder
	fmt.Fprintf(&t, "Ratios of medians\n  %-32s %-12s %-10s %-14s %-14s %-9s %8s  %s\n",
		"what", "workload", "path", "subject", "against", "line", "measured", "reached")
	for _, target := range targets() {
		v := figures.Judge(c.samples, target)
		best, measured := v.Best.Subject, fmt.Sprintf("%.2f", v.Ratio)
		if v.Missing != "" {
			best, measured = v.Against[0].Subject, "-"
		}
		what := v.What
		if target.AtMost != 0 {
			what += ", " + strings.TrimSuffix(v.Metric, "_us")
		}
		fmt.Fprintf(&t, "  %-32s %-12s %-10s %-14s %-14s %-9s %8s  %s\n",
			what, v.Workload, v.Path, v.Subject, best, v.Line(), measured, v.Word())
	}
	t.WriteString("  user plane alone, flow set-up: make bench-micro\n\n")
	return t.String()
}

// panels are the plot: one for each workload, a bar for each subject and path.
func (c *contest) panels() []figures.Panel {
	var all []figures.Panel
	for _, w := range c.workloads {
		panel := figures.Panel{Title: w.title}
		for _, p := range c.pathsOf(w.name) {
			group := figures.Group{Name: p}
			for _, e := range c.entrants {
				cell := figures.Cell{Subject: e.name, Workload: w.name, Path: p}
				if s := c.samples.Of(cell, w.metrics[0]); s.N > 0 {
					group.Bars = append(group.Bars, figures.Bar{Name: e.name, Summary: s, Ours: strings.HasPrefix(e.name, "ours")})
				}
			}
			panel.Groups = append(panel.Groups, group)
		}
		if len(panel.Groups) > 0 {
			all = append(all, panel)
		}
	}
	return all
}
