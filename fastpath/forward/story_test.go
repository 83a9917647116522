package forward

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

var update = flag.Bool("update", false, "write what the stories print into them")

// TestStories plays testdata/*.story on the network of bed_test.go. A story is a
// list of scenes: commands, a line ----, and everything that happened: each packet
// that reached somebody, and every counter that moved. A stray one fails.
//
//	send POD SRC[:PORT] > DST[:PORT] udp|tcp FLAGS|sctp|ping|pong [ttl N] [df] [len N]
//	tunnel PEER LABEL SRC…    the same from the fabric to n1
//	unreachable POD           the pod refuses what it received last with an ICMP error
//	backends [tcp|udp] NAME…  the service's members on both nodes; NAME- is draining
//	external ADDR:PORT        the service's one member is no pod
//	networks                  adds those of networks_test.go
//	isolated on|off           whether D reaches I with replies only
//	quota N                   flows an interface may hold, per worker
//	wait DURATION             the virtual clock moves on
//	flows NODE                prints its flow entries
//
// A story is played with one, two and three workers; the outcome is the same.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.story")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, workers := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("%s/workers=%d", filepath.Base(file), workers), func(t *testing.T) {
				got := play(t, string(text), workers)
				if *update && workers == 1 {
					if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				} else if got != string(text) {
					t.Errorf("%s went otherwise:\n%s", file, difference(string(text), got))
				}
			})
		}
	}
}

// play returns the story with what really happened.
func play(t *testing.T, text string, workers int) string {
	s := &stage{}
	s.bed, _, _ = twoNodes(t, workers)
	s.before = s.counters()
	var out []string
	for _, scene := range strings.Split(strings.TrimSpace(text), "\n\n") {
		var head []string
		for _, line := range strings.Split(scene, "\n") {
			if line == "----" {
				break
			}
			head = append(head, line)
		}
		s.printed = nil
		for _, line := range head {
			for _, cmd := range strings.Split(line, " ; ") {
				if cmd = strings.TrimSpace(cmd); cmd != "" && cmd[0] != '#' {
					s.command(cmd)
				}
			}
		}
		out = append(out, strings.Join(append(append(head, "----"), s.outcome()...), "\n"))
	}
	s.bed.frames()
	return strings.Join(out, "\n\n") + "\n"
}

// stage is a story being played.
type stage struct {
	bed     *bed
	before  map[string]uint64
	printed []string
}

func (s *stage) command(cmd string) {
	s.bed.t.Helper()
	f := strings.Fields(cmd)
	switch f[0] {
	case "send":
		s.bed.nodes[nodeOf(f[1])].send(f[1], parsePacket(s.bed.t, f[2:]))
		s.bed.run()
	case "tunnel":
		ip := parsePacket(s.bed.t, f[3:])
		label, _ := strconv.Atoi(f[2])
		s.bed.nodes["n1"].inject(build.Eth(build.Tunnel(ip, f[1], "192.0.2.1", uint32(label)), link.VifMAC(1), mac))
		s.bed.run()
	case "unreachable":
		n := s.bed.nodes[nodeOf(f[1])]
		last := n.sent[f[1]][len(n.sent[f[1]])-1]
		var in packet.Info
		packet.ParseIP(last, 0, len(last), &in)
		n.send(f[1], build.IP(in.Tuple.Dst.String(), in.Tuple.Src.String()).PortUnreachable(last).Bytes())
		s.bed.run()
	case "external":
		s.bed.external(f[1])
	case "networks":
		s.bed.networks()
	case "isolated":
		s.bed.isolated(f[1] == "on")
	case "quota":
		n, err := strconv.Atoi(f[1])
		if err != nil {
			s.bed.t.Fatalf("%s: %v", cmd, err)
		}
		for _, node := range s.bed.nodes {
			node.shared.opts.MaxVifFlows = n
		}
	case "backends":
		s.bed.backends(f[1:]...)
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			s.bed.t.Fatalf("%s: %v", cmd, err)
		}
		s.bed.elapse(d)
	case "flows":
		s.printed = append(s.printed, printFlows(s.bed.nodes[f[1]])...)
	default:
		s.bed.t.Fatalf("no such command: %s", cmd)
	}
}

func nodeOf(vif string) string {
	if vif == "host" {
		return "n1"
	}
	if i := slices.IndexFunc(tenants, func(x tenant) bool { return x.name == vif }); i >= 0 {
		return tenants[i].node
	}
	return where(vif).node
}

// parsePacket reads SRC > DST PROTO and options.
func parsePacket(t *testing.T, f []string) []byte {
	t.Helper()
	src, sport := hostPort(f[0])
	dst, dport := hostPort(f[2])
	p := build.IP(src, dst)
	rest := f[4:]
	switch f[3] {
	case "udp":
		p.UDP(sport, dport)
	case "tcp":
		p.TCP(sport, dport, rest[0])
		rest = rest[1:]
	case "sctp":
		p.SCTP(sport, dport).Init(1)
	case "ping":
		p.Echo(sport, 1)
	case "pong":
		p.EchoReply(dport, 1)
	}
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case "df":
			p.DF()
		case "ttl", "len":
			n, err := strconv.Atoi(rest[i+1])
			if err != nil {
				t.Fatal(err)
			}
			if rest[i] == "ttl" {
				p.TTL(uint8(n))
			} else {
				p.Payload(n)
			}
			i++
		}
	}
	return p.Bytes()
}

func hostPort(s string) (string, uint16) {
	i := strings.LastIndex(s, ":")
	if i < 0 || strings.Count(s, ":") > 1 && !strings.Contains(s, "]") {
		return s, 0
	}
	n, err := strconv.Atoi(s[i+1:])
	if err != nil {
		panic(err)
	}
	return strings.Trim(s[:i], "[]"), uint16(n)
}

// outcome lists what arrived, what was printed, and the counters that moved.
func (s *stage) outcome() (out []string) {
	for _, name := range []string{"n1", "n2"} {
		n := s.bed.nodes[name]
		vifs := make([]string, 0, len(n.vifs))
		for vif := range n.vifs {
			vifs = append(vifs, vif)
		}
		sort.Strings(vifs)
		for _, vif := range vifs {
			for _, ip := range n.got(vif) {
				out = append(out, fmt.Sprintf("%s %s receives %s", name, vif, build.Describe(ip)))
			}
		}
	}
	out = append(out, s.printed...)
	now := s.counters()
	var moved []string
	for k, v := range now {
		if v != s.before[k] {
			moved = append(moved, fmt.Sprintf("%s=%+d", k, int64(v-s.before[k])))
		}
	}
	for k, v := range s.before {
		if _, ok := now[k]; !ok {
			moved = append(moved, fmt.Sprintf("%s=%+d", k, -int64(v)))
		}
	}
	sort.Strings(moved)
	s.before = now
	return append(out, strings.TrimSpace("counters: "+strings.Join(moved, " ")))
}

// counters are all there are, summed over workers: the same with any number of them.
func (s *stage) counters() map[string]uint64 {
	c := map[string]uint64{}
	for name, n := range s.bed.nodes {
		for _, w := range n.workers {
			for r, v := range w.count.drops {
				if v > 0 {
					c[name+".drop."+Reason(r).String()] += v
				}
			}
			for vif, id := range n.vifs {
				v := w.count.vif(id)
				for k, x := range map[string]uint64{"rx": v.RxPackets, "tx": v.TxPackets} {
					if x > 0 {
						c[name+"."+vif+"."+k] += x
					}
				}
			}
			if l := w.flows.Len(); l > 0 {
				c[name+".flows"] += uint64(l)
			}
		}
	}
	return c
}

// printFlows prints entries with the letters operators know, in order of keys.
func printFlows(n *node) (out []string) {
	for _, e := range n.flows() {
		line := fmt.Sprintf("%s K(%d) %s %s", n.name, e.KeyNH, e.Key().Tuple, e.Action)
		if e.NAT != 0 {
			line += fmt.Sprintf("(%s) as %s", e.NAT, e.Translated())
		}
		if e.Proto == packet.ProtoTCP {
			line += " " + e.TCP.String()
		}
		if e.Flags&flow.FlagForward == 0 {
			line += " reverse"
		}
		out = append(out, fmt.Sprintf("%s nh %d %d packets", line, e.NH, e.Packets))
	}
	sort.Strings(out)
	return out
}

// difference shows the lines that differ.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out []string
	for i := range max(len(w), len(g)) {
		a, b := "", ""
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			out = append(out, fmt.Sprintf("line %d\n  want %s\n  got  %s", i+1, a, b))
		}
	}
	return strings.Join(out, "\n")
}
