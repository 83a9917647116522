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
	broken    map[string]string // subjects that cannot be built, and why
	settings  map[string]string // of those that were
	samples   figures.Series
	raw       *os.File // a line for every sample, as it comes
}

// run measures everything, round by round, and reports. What was built is
// removed whatever happens.
func run(ctx context.Context, o *options) error {
	c := &contest{
		options: o, began: time.Now(),
		subjects: map[string]subject{}, broken: map[string]string{}, settings: map[string]string{}, samples: figures.Series{},
	}
	var err error
	if c.entrants, err = choose(entrants(), func(e entrant) string { return e.name }, o.subjects); err != nil {
		return fmt.Errorf("subjects: %w", err)
	}
	if c.workloads, err = choose(workloads(), func(w workload) string { return w.name }, o.workloads); err != nil {
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
	for round := 1; round <= o.rounds; round++ {
		for _, e := range c.entrants {
			if err := c.turn(ctx, round, e); err != nil {
				return err
			}
		}
	}
	c.say("done")
	return c.report(about)
}

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
	if why := c.broken[e.name]; why != "" {
		c.missing(round, e, mine, why)
		return nil
	}
	if round == 1 || !e.resident {
		c.say("round %d/%d, %s: %s: build it", round, c.rounds, e.name, e.what)
		if err := s.up(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err = errors.Join(err, s.down(context.WithoutCancel(ctx)))
			c.broken[e.name] = err.Error()
			c.say("%s is not available: %v", e.name, err)
			c.missing(round, e, mine, err.Error())
			return nil
		}
		if round == 1 {
			c.settings[e.name] = s.settings(ctx)
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

func (c *contest) workload(name string) int {
	return slices.IndexFunc(c.workloads, func(w workload) bool { return w.name == name })
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
