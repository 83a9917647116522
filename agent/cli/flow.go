package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"sigs.k8s.io/yaml"

	"github.com/vragent/vragent/agent/cli/show"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

func flowCommand() *cli.Command {
	return verb(cli.Command{
		Name: "flow", Usage: "conversations: two linked entries each, forward and reverse",
		Flags: []cli.Flag{
			habit("list", "l"),
			&cli.StringFlag{Name: "match", Usage: "flows of `EXPR`, \"IP:PORT[,IP:PORT][& proto tcp|udp|sctp|icmp|icmp6|N][& vrf N]\"; * matches anything"},
			&cli.StringFlag{Name: "get", Usage: "one entry by `INDEX`, with its routes, next hops and interfaces"},
		},
	}, func(q *question) error {
		if q.IsSet("get") {
			return q.flowDetail()
		}
		var query control.FlowQuery
		if q.IsSet("match") {
			var err error
			if query, err = parseMatch(q.String("match")); err != nil {
				return usage(q.Context, "%v", err)
			}
		}
		return q.flowList(query)
	})
}

// flowList prints entries as they arrive: a node may have millions.
func (q *question) flowList(query control.FlowQuery) error {
	w := q.App.Writer
	if q.form == "table" {
		r, err := q.askFastPath(control.Request{Status: &control.Empty{}})
		if err != nil {
			return err
		}
		if r.Status == nil {
			return errors.New("the fast path answered without a status")
		}
		which := ""
		if q.IsSet("match") {
			which = matchText(query)
		}
		show.WriteFlowHeader(w, r.Status, which)
	}
	count := 0
	err := q.eachFlow(query, func(f control.Flow) error {
		count++
		return writeFlowAs(w, q.form, f, count == 1)
	})
	if err != nil {
		return err
	}
	endFlows(w, q.form, count)
	return nil
}

// writeFlowAs writes one element of the list.
func writeFlowAs(w io.Writer, form string, f control.Flow, first bool) error {
	switch form {
	case "json":
		b, err := json.MarshalIndent(f, "  ", "  ")
		if err != nil {
			return err
		}
		lead := ",\n  "
		if first {
			lead = "[\n  "
		}
		_, err = fmt.Fprintf(w, "%s%s", lead, b)
		return err
	case "yaml":
		b, err := yaml.Marshal([]control.Flow{f})
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	show.WriteFlow(w, f)
	return nil
}

func endFlows(w io.Writer, form string, count int) {
	switch {
	case form == "table":
	case count == 0:
		fmt.Fprintln(w, "[]")
	case form == "json":
		fmt.Fprintln(w, "\n]")
	}
}

// eachFlow visits the entries that query selects.
func (q *question) eachFlow(query control.FlowQuery, visit func(control.Flow) error) error {
	var failed error
	err := q.streamFastPath(control.Request{Flows: &query}, func(r *control.Reply) bool {
		for _, f := range r.Flows {
			if failed = visit(f); failed != nil {
				return false
			}
		}
		return !r.Done
	})
	if failed != nil {
		return failed
	}
	return err
}

// oneFlow reads an entry by index.
func (q *question) oneFlow(index uint32) (*control.Flow, error) {
	var found *control.Flow
	err := q.eachFlow(control.FlowQuery{Index: &index}, func(f control.Flow) error { found = &f; return nil })
	return found, err
}

// flowDetail prints one entry with what the tables say of it.
func (q *question) flowDetail() error {
	index, err := strconv.ParseUint(q.String("get"), 10, 32)
	if err != nil {
		return usage(q.Context, "--get %q: want a flow index as flow prints it", q.String("get"))
	}
	f, err := q.oneFlow(uint32(index))
	if err != nil {
		return err
	}
	if f == nil {
		return fmt.Errorf("there is no flow with index %d", index)
	}
	var reverse *control.Flow
	if f.Reverse != control.NoIndex {
		if reverse, err = q.oneFlow(f.Reverse); err != nil {
			return err
		}
	}
	t, err := q.tables()
	if err != nil {
		return err
	}
	d := t.Detail(*f, reverse)
	return q.print(d, func(w io.Writer) { show.WriteFlowDetail(w, d) })
}

// parseMatch reads Contrail's match expression:
// "IP:PORT[,IP:PORT][& proto P][& vrf N]", each part optional, * for anything.
func parseMatch(s string) (control.FlowQuery, error) {
	var query control.FlowQuery
	for part := range strings.SplitSeq(s, "&") {
		part = strings.TrimSpace(part)
		word, value, _ := strings.Cut(part, " ")
		value = strings.TrimSpace(value)
		var err error
		switch strings.ToLower(word) {
		case "proto":
			query.Proto, err = parseProto(value)
		case "vrf":
			query.VRF, err = parseVRFNumber(value)
		default:
			err = parseEnds(part, &query)
		}
		if err != nil {
			return query, err
		}
	}
	return query, nil
}

func parseEnds(s string, query *control.FlowQuery) error {
	a, b, two := strings.Cut(s, ",")
	var err error
	if query.A, err = parseEnd(a); err != nil || !two {
		return err
	}
	query.B, err = parseEnd(b)
	return err
}

// parseEnd reads "IP:PORT", "[IPv6]:PORT", "IP", with * in either place. An
// address that may be anything is unspecified, such a port 0; both: the zero
// value.
func parseEnd(s string) (netip.AddrPort, error) {
	s = strings.TrimSpace(s)
	host, port := s, "*"
	if _, err := netip.ParseAddr(s); err != nil {
		if i := strings.LastIndexByte(s, ':'); i >= 0 {
			host, port = s[:i], s[i+1:]
		}
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	var number uint64
	if port != "*" {
		var err error
		if number, err = strconv.ParseUint(port, 10, 16); err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q: %q is not a port", s, port)
		}
	}
	if host == "*" {
		if number == 0 {
			return netip.AddrPort{}, nil
		}
		return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(number)), nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: %q is not an IP address", s, host)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}

func parseVRFNumber(s string) (table.VRFID, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("vrf %q is not a number", s)
	}
	return table.VRFID(n), nil
}

// parseProto reads a protocol's name or number.
func parseProto(s string) (uint8, error) {
	switch strings.ToLower(s) {
	case "icmp":
		return 1, nil
	case "tcp":
		return 6, nil
	case "udp":
		return 17, nil
	case "icmp6", "icmpv6":
		return 58, nil
	case "sctp":
		return 132, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("protocol %q: want tcp, udp, sctp, icmp, icmp6 or a number", s)
	}
	return uint8(n), nil
}

// matchText says what is listed, in Contrail's words.
func matchText(query control.FlowQuery) string {
	text := []string{endText(query.A), endText(query.B)}
	if query.Proto != 0 {
		text = append(text, "Protocol "+show.ProtoName(query.Proto))
	}
	if query.VRF != 0 {
		text = append(text, fmt.Sprintf("VRF %d", query.VRF))
	}
	return "(" + strings.Join(text, ", ") + ")"
}

func endText(a netip.AddrPort) string {
	host, port := "*", "*"
	if a.IsValid() && !a.Addr().IsUnspecified() {
		host = a.Addr().String()
	}
	if a.Port() != 0 {
		port = strconv.Itoa(int(a.Port()))
	}
	return "[" + host + "]:" + port
}
