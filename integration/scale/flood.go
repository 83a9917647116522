package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/bench/load/result"
)

const (
	floodFlows  = 65536 // entries of the table
	floodRate   = 100_000
	floodRounds = 7
	floodTime   = 2 * time.Second // of one measurement
	floodKeeps  = 0.95
	serverPort  = 5001
	vipPort     = 80
	otherCore   = 0 // of everything but the worker
)

// The pods of a flood.
const (
	client = iota
	server
	attacker
	neighbour // has filled its part of the table
	hole      // answers nothing
	floodPods
)

// flood compares two nodes in turn. In both a pod sends SYNs to one that does not
// answer: on the first node all of one connection, which the table does not feel; on
// the second each of another, which fills what a neighbour has left of the table. What
// others get done in established and in new connections should be alike.
func flood(ctx context.Context, r *report) error {
	var beds [2]*bed
	for i := range beds {
		b, err := floodBed(r.vragent)
		if err != nil {
			return err
		}
		defer b.down()
		beds[i] = b
	}
	if err := fill(beds[1], floodFlows/4); err != nil {
		return err
	}
	for _, rate := range []int{floodRate, 0} {
		if err := compare(ctx, r, beds, rate); err != nil {
			return err
		}
	}
	return nil
}

func floodBed(vragent string) (*bed, error) {
	return makeBed(vragent, floodPods, settings{poll: "adaptive", flows: floodFlows, mute: 1, startUp: func(pods []*pod) *table.State {
		const composite, service = 10, 11
		to := pods[server].vif
		return &table.State{
			NextHops: []table.NextHop{
				{ID: composite, Type: table.NHComposite, VRF: 1, Members: []table.Member{{NH: to.NH, Key: 1}}},
				{ID: service, Type: table.NHService, VRF: 1, Listeners: []table.Listener{{Proto: 6, Port: vipPort, NH: composite}}},
			},
			Routes:   []table.Route{{VRF: 1, Prefix: netip.PrefixFrom(vip(), 32), NH: service}},
			PortMaps: []table.PortMap{{Vif: to.ID, VIP: vip(), Proto: 6, Port: vipPort, Fixed: to.Addrs[0], Target: serverPort}},
		}
	}})
}

func vip() netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, 1}) }

// fill has the neighbour begin as many conversations as one pod may.
func fill(b *bed, flows int) error {
	s := shower{from: b.pods[neighbour], to: b.pods[hole], flows: flows, rate: floodRate, total: flows + 64, core: otherCore}
	run, err := s.start()
	if err == nil {
		_, err = run.wait()
	}
	return err
}

// compare measures both nodes in turn under floods of a rate.
func compare(ctx context.Context, r *report, beds [2]*bed, rate int) error {
	pace := fmt.Sprintf("%d SYNs a second", rate)
	if rate == 0 {
		pace = "SYNs as fast as one core sends them"
	}
	var quiet, sink, full []done
	for range floodRounds {
		for _, m := range []struct {
			b     *bed
			flows int
			into  *[]done
		}{{beds[0], 0, &quiet}, {beds[0], 1, &sink}, {beds[1], floodFlows, &full}} {
			d, err := beneath(ctx, r, m.b, offer{m.flows, rate})
			if err != nil {
				return err
			}
			*m.into = append(*m.into, d)
		}
	}
	r.say("%s, %d rounds of %v in turn, medians", pace, floodRounds, floodTime)
	for _, row := range []struct {
		what string
		of   []done
	}{{"no flood", quiet}, {"flood of one connection", sink}, {"flood that fills the table", full}} {
		r.say("  %-27s %7.0f SYNs/s arrive; established: %6.0f requests/s, %d failed; new: %6.0f connections/s, %d failed", row.what,
			median(row.of, syns), median(row.of, established), total(row.of, lostRequests), median(row.of, fresh), total(row.of, lostConnections))
	}
	for i, what := range []string{"the sink's node", "the node with a full table"} {
		used, err := describe(beds[i])
		if err != nil {
			return err
		}
		r.say("  so far, %s: %s", what, used)
	}
	for _, x := range []struct {
		what string
		of   func(done) float64
	}{{"established", established}, {"new connections", fresh}} {
		share := median(full, x.of) / max(median(sink, x.of), 1)
		r.verdict(share >= floodKeeps, "%s keep %.1f %% of their rate (rounds %s); at least %.0f %%", x.what, 100*share, shares(full, sink, x.of), 100*floodKeeps)
	}
	return nil
}

// done is what others got done in one measurement.
type done struct {
	requests, connections result.Result
	syns                  float64 // a second
}

func established(d done) float64    { return d.requests.Rate }
func fresh(d done) float64          { return d.connections.Rate }
func syns(d done) float64           { return d.syns }
func lostRequests(d done) uint64    { return d.requests.Failed }
func lostConnections(d done) uint64 { return d.connections.Failed }
func total(l []done, of func(done) uint64) (sum uint64) {
	for _, d := range l {
		sum += of(d)
	}
	return sum
}

func median(l []done, of func(done) float64) float64 {
	var v []float64
	for _, d := range l {
		v = append(v, of(d))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// shares are the ratios of the rounds, in percent.
func shares(a, b []done, of func(done) float64) string {
	var out []string
	for i := range a {
		out = append(out, strconv.Itoa(int(100*of(a[i])/max(of(b[i]), 1)+0.5)))
	}
	return strings.Join(out, " ")
}

// offer is what the attacker sends: nothing when flows is 0.
type offer struct{ flows, rate int }

// beneath measures what the client gets done while the attacker begins so many
// connections over and over.
func beneath(ctx context.Context, r *report, b *bed, o offer) (d done, err error) {
	serve, err := startLoad(ctx, r, b.pods[server], "serve", "-port", strconv.Itoa(serverPort))
	if err != nil {
		return d, err
	}
	defer serve.end()
	if _, err := serve.line(); err != nil { // ready
		return d, err
	}
	var attack *running
	if o.flows > 0 {
		s := shower{from: b.pods[attacker], to: b.pods[hole], syn: true, flows: o.flows, rate: o.rate, core: otherCore}
		if attack, err = s.start(); err != nil {
			return d, err
		}
	}
	start := time.Now()
	direct := netip.AddrPortFrom(b.pods[server].addr, serverPort).String()
	service := netip.AddrPortFrom(vip(), vipPort).String()
	err = both(ctx, r, b.pods[client], []asked{
		{&d.requests, []string{"tcp-rr", "-conns", "4", "-to", direct}}, {&d.connections, []string{"conn-rate", "-parallel", "4", "-to", service}},
	})
	if attack != nil {
		sent, serr := attack.stop()
		d.syns = float64(sent) / time.Since(start).Seconds()
		err = errors.Join(err, serr)
	}
	return d, err
}

// asked is a load program to run, and where its result goes.
type asked struct {
	into *result.Result
	args []string
}

// both runs load programs at once.
func both(ctx context.Context, r *report, from *pod, list []asked) error {
	var all []*program
	for _, a := range list {
		p, err := startLoad(ctx, r, from, append(a.args, "-time", floodTime.String())...)
		if err != nil {
			return err
		}
		defer p.end()
		all = append(all, p)
	}
	for i, p := range all {
		line, err := p.line()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // not even a first connection: it has said so
			list[i].into.Failed = 1
			continue
		}
		if err := json.Unmarshal(line, list[i].into); err != nil {
			return err
		}
	}
	return nil
}

// program is a benchload at work.
type program struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

// startLoad starts one in a pod, off the worker's core.
func startLoad(ctx context.Context, r *report, in *pod, args ...string) (*program, error) {
	c := exec.CommandContext(ctx, r.load, append([]string{args[0], "-netns", in.Netns, "-cpu", strconv.Itoa(otherCore)}, args[1:]...)...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &program{c, bufio.NewScanner(out)}, c.Start()
}

func (p *program) line() ([]byte, error) {
	if !p.out.Scan() {
		return nil, errors.Join(fmt.Errorf("%s said nothing", p.cmd), p.out.Err())
	}
	return p.out.Bytes(), nil
}

func (p *program) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// describe says how full a table is and what was dropped for it.
func describe(b *bed) (string, error) {
	s, err := b.status()
	if err != nil {
		return "", err
	}
	drops, err := b.ask(control.Request{DropStats: &control.Empty{}})
	if err != nil {
		return "", err
	}
	vifs, err := b.ask(control.Request{Vifs: &control.Empty{}})
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("the table is %.1f %% full", 100*float64(s.Workers[0].Flows)/float64(s.Workers[0].FlowSize))
	for _, d := range drops.DropStats {
		if d.Count > 0 {
			text += fmt.Sprintf(", %s %d", d.Name, d.Count)
		}
	}
	for _, v := range vifs.Vifs {
		for at, who := range map[int]string{client: "client", server: "server", attacker: "attacker"} {
			if v.ID == b.pods[at].vif.ID {
				text += fmt.Sprintf("; %s: %d flows, %d packets dropped by the worker", who, v.Flows, v.Drops)
			}
		}
	}
	return text, nil
}
