package cli

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/agent/cli/show"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

const traceText = `A synthetic packet goes through the live tables and flows of the fast path, by
the very code that decides real packets; nothing is sent and no flow is made.
With --label and --peer it comes out of a tunnel instead of an interface.`

func traceCommand() *cli.Command {
	return verb(cli.Command{
		Name: "trace", Usage: "what would happen to a packet, stage by stage", Description: traceText,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "vif", Usage: "the packet comes from this vif: `NUMBER` or device name"},
			&cli.StringFlag{Name: "pod", Usage: "the packet comes from this pod: `NAMESPACE/NAME`"},
			&cli.StringFlag{Name: "dst", Usage: "destination `IP[:PORT]` (required)"},
			&cli.StringFlag{Name: "src", Usage: "source `IP[:PORT]` (default: the vif's own address)"},
			&cli.StringFlag{Name: "proto", Value: "tcp", Usage: "`PROTOCOL`: tcp, udp, sctp, icmp, icmp6 or a number"},
			&cli.StringFlag{Name: "flags", Usage: "TCP `FLAGS`: letters of S, A, F, R, P, U (default: S)"},
			&cli.IntFlag{Name: "size", DefaultText: "the least", Usage: "`BYTES` of the IP packet"},
			&cli.UintFlag{Name: "ttl", Value: 64, Usage: "time to live, or hop limit, of `N`"},
			&cli.BoolFlag{Name: "df", Usage: "do not fragment", DisableDefaultText: true},
			&cli.UintFlag{Name: "label", DefaultText: "none", Usage: "the packet arrives in a tunnel with this MPLS `LABEL`"},
			&cli.StringFlag{Name: "peer", Usage: "outer source `IP` of the tunnel packet"},
		},
	}, func(q *question) error {
		query, err := traceQuery(q)
		if err != nil {
			return usage(q.Context, "%v", err)
		}
		if query.Vif, err = q.traceVif(); err != nil {
			return err
		}
		r, err := q.askFastPath(control.Request{Trace: &query})
		if err != nil {
			return err
		}
		if r.Trace == nil {
			return errors.New("the fast path answered without a trace")
		}
		return q.print(r.Trace, func(w io.Writer) { show.WriteTrace(w, *r.Trace) })
	})
}

// traceQuery reads the flags that describe the packet.
func traceQuery(q *question) (control.TraceQuery, error) {
	query := control.TraceQuery{
		Flags: strings.ToUpper(q.String("flags")), Size: q.Int("size"), TTL: uint8(q.Uint("ttl")),
		DF: q.Bool("df"), Label: table.Label(q.Uint("label")),
	}
	if err := traceConflicts(q); err != nil {
		return query, err
	}
	var err error
	if query.Dst, err = parseTarget("dst", q.String("dst")); err != nil {
		return query, err
	}
	if s := q.String("src"); s != "" {
		if query.Src, err = parseTarget("src", s); err != nil {
			return query, err
		}
	}
	if s := q.String("peer"); s != "" {
		if query.Peer, err = netip.ParseAddr(s); err != nil {
			return query, fmt.Errorf("--peer %q is not an IP address", s)
		}
	}
	query.Proto, err = parseProto(q.String("proto"))
	if query.Proto == 1 && query.Dst.Addr().Is6() {
		query.Proto = 58
	}
	return query, err
}

// traceConflicts refuses flags that do not go together.
func traceConflicts(q *question) error {
	fromTunnel := q.IsSet("label") || q.IsSet("peer")
	fromVif := q.IsSet("vif") || q.IsSet("pod")
	switch {
	case !q.IsSet("dst"):
		return errors.New("--dst is missing: where should the packet go?")
	case q.IsSet("vif") && q.IsSet("pod"):
		return errors.New("--vif and --pod name the same thing: give one")
	case fromTunnel && fromVif:
		return errors.New("--label and --peer say that the packet comes out of a tunnel: --vif and --pod do not go with them")
	case fromTunnel && (!q.IsSet("label") || !q.IsSet("peer") || !q.IsSet("src")):
		return errors.New("a packet out of a tunnel needs --label, --peer and --src")
	case !fromTunnel && !fromVif:
		return errors.New("where does the packet come from? Give --vif, --pod, or --label with --peer")
	case q.Uint("ttl") > 255:
		return fmt.Errorf("--ttl %d: at most 255", q.Uint("ttl"))
	case q.Int("size") < 0 || q.Int("size") > 65535:
		return fmt.Errorf("--size %d: an IP packet has at most 65535 bytes", q.Int("size"))
	}
	if s := strings.Trim(strings.ToUpper(q.String("flags")), "SAFRPU"); s != "" {
		return fmt.Errorf("--flags %q: want letters of S, A, F, R, P, U", q.String("flags"))
	}
	return nil
}

// parseTarget reads "IP:PORT", "[IPv6]:PORT" or "IP".
func parseTarget(name, s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, fmt.Errorf("--%s %q: want IP:PORT, [IPv6]:PORT or IP", name, s)
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// traceVif finds the vif the packet enters by.
func (q *question) traceVif() (table.VifID, error) {
	vifs, err := q.vifs()
	if err != nil {
		return 0, err
	}
	var v control.VifStats
	switch {
	case q.IsSet("vif"):
		v, err = findVif(vifs, q.String("vif"))
	case q.IsSet("pod"):
		v, err = podVif(vifs, q.String("pod"))
	default:
		v, err = fabricVif(vifs)
	}
	return v.ID, err
}

func podVif(vifs []control.VifStats, pod string) (control.VifStats, error) {
	var known []string
	for _, v := range vifs {
		if v.Kind != table.VifVirtual {
			continue
		}
		if v.Owner == pod {
			return v, nil
		}
		known = append(known, v.Owner)
	}
	return control.VifStats{}, fmt.Errorf("no vif belongs to pod %q; the pods here: %s", pod, strings.Join(known, ", "))
}

func fabricVif(vifs []control.VifStats) (control.VifStats, error) {
	for _, v := range vifs {
		if v.Kind == table.VifFabric {
			return v, nil
		}
	}
	return control.VifStats{}, errors.New("the fast path has no fabric vif yet")
}
