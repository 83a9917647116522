package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"strings"
	"time"

	"github.com/vragent/vragent/integration/bench/load/result"
)

// measure runs one workload on one path of a subject.
//
// Processor time is the whole machine's: what every processor did not spend idle
// while the load ran. Nothing narrower is fair. A kernel path works in softirqs,
// which are charged to whoever happens to run or to nobody at all, so that
// accounting by thread or cgroup misses most of it; a poll-mode path works in
// threads of its own and burns them idle. The price: other programs of the
// machine count too. What they take is measured before the run and printed.
func (b *bed) measure(ctx context.Context, o *options, w workload, path string) (map[string]float64, error) {
	to, ok := b.ends[path]
	if !ok {
		return nil, fmt.Errorf("no path %s", path)
	}
	ctx, cancel := context.WithTimeout(ctx, w.long+sampleLimit)
	defer cancel()
	args := append(append([]string{o.benchload()}, w.args...), "-to", to.address.String())
	var r *result.Result
	var err error
	if w.name == flood {
		r, err = b.flooded(ctx, o, args, to, w.long)
	} else {
		r, err = b.load(ctx, append(args, "-time", w.long.String()))
	}
	if err != nil {
		return nil, err
	}
	if r.Count+r.Bytes == 0 {
		return nil, errors.New("nothing went through")
	}
	v := w.values(r)
	maps.Copy(v, map[string]float64{cpu: r.CPU.Machine, steal: r.CPU.Steal, "failed": float64(r.Failed), "seconds": r.Seconds})
	return v, nil
}

// sampleLimit bounds what a sample takes beside its time.
const sampleLimit = 30 * time.Second

func (b *bed) load(ctx context.Context, args []string) (*result.Result, error) {
	out, err := b.client.Run(ctx, args...)
	if err != nil {
		return nil, err
	}
	return last(out)
}

// last reads the last line that a program of the load printed.
func last(out string) (*result.Result, error) {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var r result.Result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		return nil, fmt.Errorf("%q: %w", lines[len(lines)-1], err)
	}
	return &r, nil
}

// flooded counts, where they arrive, the packets that a flood makes. The flood
// goes on until the sink has measured.
func (b *bed) flooded(ctx context.Context, o *options, args []string, to end, long time.Duration) (*result.Result, error) {
	if err := b.behind.receiveByPoll(ctx, true); err != nil {
		return nil, err
	}
	defer func() { _ = b.behind.receiveByPoll(context.WithoutCancel(ctx), false) }()
	sink := to.server.Command(ctx, o.benchload(), "sink", "-dev", to.device, "-port", fmt.Sprint(port), "-time", long.String(), "-warm", "500ms")
	var complaints bytes.Buffer
	sink.Stderr = &complaints
	pipe, err := sink.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := to.server.Start(sink); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(pipe)
	if _, err := lines.ReadString('\n'); err != nil { // it says that it is ready
		return nil, fmt.Errorf("sink: %w: %s", errors.Join(err, sink.Wait()), complaints.String())
	}
	source := b.client.Command(ctx, append(args, "-time", (long+sampleLimit).String())...)
	var made bytes.Buffer
	source.Stdout, source.Stderr = &made, &made
	if err := b.client.Start(source); err != nil {
		return nil, errors.Join(err, sink.Process.Kill(), sink.Wait())
	}
	counted, readErr := io.ReadAll(lines)
	err = errors.Join(readErr, sink.Wait())
	// One call of the generator lasts seconds on a slow path, and it hears no
	// gentler signal before it returns.
	_ = source.Process.Kill()
	_ = source.Wait()
	if err != nil || source.ProcessState.Exited() {
		return nil, fmt.Errorf("sink: %w: %s; flood: %s", err, lastLine(complaints.String()), lastLine(made.String()))
	}
	return last(string(counted))
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// said is what a program of the machine prints, "" if it cannot.
func said(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
