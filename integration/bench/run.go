package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vragent/vragent/integration/bench/figures"
)

// contest is a run of the benchmark.
type contest struct {
	*options
	began     time.Time
	entrants  []entrant
	workloads []workload
	subjects  map[string]subject
	broken    map[string]string // subjects that could not be built, and why
	tries     map[string]int    // how often they could not
	built     map[string]bool
	settings  map[string]string // of those that were built
	samples   figures.Series
	raw       *os.File // a line for every sample, as it comes
}

// run measures everything, round by round, and reports. What was built is
// removed whatever happens.
func run(ctx context.Context, o *options) error {
	c := &contest{
		options: o, began: time.Now(),
		subjects: map[string]subject{}, broken: map[string]string{}, tries: map[string]int{}, built: map[string]bool{}, settings: map[string]string{}, samples: figures.Series{},
	}
	var err error
	competitors, loads := entrants(), workloads()
	if o.line {
		competitors, loads = lineEntrants(), lineWorkloads()
	}
	if c.entrants, err = choose(competitors, func(e entrant) string { return e.name }, o.subjects); err != nil {
		return fmt.Errorf("subjects: %w", err)
	}
	if c.workloads, err = choose(loads, func(w workload) string { return w.name }, o.workloads); err != nil {
		return fmt.Errorf("workloads: %w", err)
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	for _, e := range c.entrants {
		c.subjects[e.name] = e.build(o)
	}
	defer c.clear()
	about := machine(ctx, o)
	fmt.Print(about)
	if c.raw, err = os.Create(filepath.Join(o.out, "samples.txt")); err != nil {
		return err
	}
	defer c.raw.Close()
	c.say("%d rounds of about %v", o.rounds, c.length().Round(time.Second))
	for round := 1; round <= o.rounds; round++ {
		for _, e := range c.entrants {
			if err := c.turn(ctx, round, e); err != nil {
				return errors.Join(err, c.report(about)) // what was measured before is worth something
			}
		}
	}
	c.say("done")
	return c.report(about)
}

// length is what a round takes if all goes well.
func (c *contest) length() (sum time.Duration) {
	const aside = 600 * time.Millisecond // of a sample: start, warm-up
	const build = 4 * time.Second        // of a subject, and its removal
	for _, e := range c.entrants {
		if !e.resident {
			sum += build
		}
		for _, t := range c.tasks(e) {
			sum += time.Duration(float64(c.workloads[c.workload(t.workload)].long)*c.factor) + aside
		}
	}
	return sum
}

// maxTries is how often a subject may fail to come up before it is given up.
const maxTries = 2

func (c *contest) say(format string, args ...any) {
	fmt.Printf("[%6.1fs] %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// clear removes all subjects, also after an interrupt.
func (c *contest) clear() {
	for _, e := range c.entrants {
		if err := c.subjects[e.name].down(context.Background()); err != nil {
			c.say("%s cannot be removed: %v", e.name, err)
		}
	}
}

// turn is one subject's part of a round. Only the end of the run is an error:
// what one subject cannot do is a line of the results.
func (c *contest) turn(ctx context.Context, round int, e entrant) error {
	mine := c.tasks(e)
	if len(mine) == 0 {
		return nil
	}
	s := c.subjects[e.name]
	if c.tries[e.name] == maxTries {
		c.missing(round, e, mine, c.broken[e.name])
		return nil
	}
	if !c.built[e.name] || !e.resident {
		c.say("round %d/%d, %s: %s: build it", round, c.rounds, e.name, e.what)
		if err := s.up(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err = errors.Join(err, s.down(context.WithoutCancel(ctx)))
			c.broken[e.name] = err.Error()
			c.tries[e.name]++
			c.say("%s is not available: %v", e.name, err)
			c.missing(round, e, mine, err.Error())
			return nil
		}
		if !c.built[e.name] {
			c.built[e.name], c.settings[e.name] = true, s.settings(ctx)
		}
	}
	for _, t := range mine {
		c.sample(ctx, round, e, t)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if !e.resident {
		return s.down(ctx)
	}
	return nil
}

// tasks are those of a subject that were asked for.
func (c *contest) tasks(e entrant) []task {
	return slices.DeleteFunc(slices.Clone(e.tasks), func(t task) bool { return c.workload(t.workload) < 0 })
}

func (c *contest) workload(name string) int { return workloadAt(c.workloads, name) }

func workloadAt(all []workload, name string) int {
	return slices.IndexFunc(all, func(w workload) bool { return w.name == name })
}

func (c *contest) sample(ctx context.Context, round int, e entrant, t task) {
	w := c.workloads[c.workload(t.workload)]
	w.long = time.Duration(float64(w.long) * c.factor)
	s := figures.Sample{Round: round, Cell: figures.Cell{Subject: e.name, Workload: t.workload, Path: t.path}}
	values, err := c.subjects[e.name].pods().measure(ctx, c.options, w, t.path)
	if err != nil {
		s.Missing = err.Error()
	}
	s.Values = values
	c.keep(s)
	c.say("round %d/%d, %s", round, c.rounds, s)
}

func (c *contest) missing(round int, e entrant, mine []task, why string) {
	for _, t := range mine {
		c.keep(figures.Sample{Round: round, Cell: figures.Cell{Subject: e.name, Workload: t.workload, Path: t.path}, Missing: why})
	}
}

func (c *contest) keep(s figures.Sample) {
	c.samples.Add(s)
	fmt.Fprintln(c.raw, s)
}
