package show

import (
	"fmt"
	"io"
	"strings"

	"github.com/vragent/vragent/fastpath/table"
)

// NextHop is a next hop with how many objects refer to it, for JSON and YAML.
type NextHop struct {
	table.NextHop
	References int `json:"references"`
}

// NextHops returns all next hops in the order of their ids.
func (t *Tables) NextHops() []NextHop {
	out := make([]NextHop, 0, len(t.State.NextHops))
	for _, nh := range t.State.NextHops {
		out = append(out, NextHop{nh, t.refs[nh.ID]})
	}
	return out
}

// Chain returns a next hop and, for a composite or a service, every next hop
// below it, each once, top first.
func (t *Tables) Chain(id table.NextHopID) ([]NextHop, bool) {
	if _, ok := t.NH(id); !ok {
		return nil, false
	}
	var out []NextHop
	seen := map[table.NextHopID]bool{id: true}
	for queue := []table.NextHopID{id}; len(queue) > 0; queue = queue[1:] {
		nh, ok := t.NH(queue[0])
		if !ok {
			continue
		}
		out = append(out, NextHop{nh, t.refs[nh.ID]})
		for _, sub := range below(nh) {
			if !seen[sub] {
				seen[sub] = true
				queue = append(queue, sub)
			}
		}
	}
	return out, true
}

const nhIndent = "              "

// WriteNextHops prints next hops as Contrail's nh does.
func (t *Tables) WriteNextHops(w io.Writer, list []NextHop) {
	for _, nh := range list {
		t.writeNextHop(w, nh)
		fmt.Fprintln(w)
	}
}

func (t *Tables) writeNextHop(w io.Writer, nh NextHop) {
	fmly := "AF_INET"
	if t.inet6[nh.ID] {
		fmly = "AF_INET6"
	}
	fmt.Fprintf(w, "Id:%-10d Type:%-14s Fmly: %s  Rid:0  Ref_cnt:%-10d Vrf:%d\n",
		nh.ID, nhTypeName(nh.Type), fmly, nh.References, nh.VRF)
	fmt.Fprintf(w, "%sFlags:%s\n", nhIndent, nhFlags(nh.NextHop))
	switch nh.Type {
	case table.NHEncap:
		t.writeEncap(w, nh.NextHop)
	case table.NHTunnel:
		t.writeTunnel(w, nh.NextHop)
	case table.NHComposite:
		t.writeComposite(w, nh.NextHop)
	case table.NHService:
		t.writeService(w, nh.NextHop)
	case table.NHVRFTranslate:
		fmt.Fprintf(w, "%sVrf:%d (%s)\n", nhIndent, nh.VRF, t.vrfName(nh.VRF))
	case table.NHHost:
		fmt.Fprintf(w, "%sOif:%d\n%s%s\n", nhIndent, nh.Vif, nhIndent, t.vifText(nh.Vif))
	case table.NHResolve:
		fmt.Fprintf(w, "%sSip:%v Dip:%v\n", nhIndent, nh.Sip, nh.Dip)
	}
}

func (t *Tables) writeEncap(w io.Writer, nh table.NextHop) {
	fmt.Fprintf(w, "%sEncapFmly:0806 Oif:%d Len:14\n", nhIndent, nh.Vif)
	if v, ok := t.vifs[nh.Vif]; ok {
		fmt.Fprintf(w, "%sEncap Data: %s\n", nhIndent, etherHex(v.MAC, table.RouterMAC))
	}
	fmt.Fprintf(w, "%s%s\n", nhIndent, t.vifText(nh.Vif))
}

func (t *Tables) writeTunnel(w io.Writer, nh table.NextHop) {
	fmt.Fprintf(w, "%sOif:%d Len:14 Data:%s\n", nhIndent, nh.Vif, etherHex(nh.DstMAC, nh.SrcMAC))
	fmt.Fprintf(w, "%sSip:%v Dip:%v\n", nhIndent, nh.Sip, nh.Dip)
}

func (t *Tables) writeComposite(w io.Writer, nh table.NextHop) {
	fmt.Fprintf(w, "%sValid Hash Key Parameters: Proto,SrcIP,SrcPort,DstIp,DstPort\n", nhIndent)
	if nh.Port != 0 {
		fmt.Fprintf(w, "%sListener: %s/%d\n", nhIndent, ProtoName(nh.Proto), nh.Port)
	}
	if nh.Affinity != 0 {
		fmt.Fprintf(w, "%sAffinity: ClientIP, %d s\n", nhIndent, nh.Affinity)
	}
	subs := make([]string, 0, len(nh.Members))
	for _, m := range nh.Members {
		subs = append(subs, subNH(m))
	}
	fmt.Fprintf(w, "%sSub NH(label): %s\n", nhIndent, strings.Join(subs, " "))
	for i, m := range nh.Members {
		fmt.Fprintf(w, "%s  %2d: %s\n", nhIndent, i, t.memberText(m))
	}
}

func (t *Tables) writeService(w io.Writer, nh table.NextHop) {
	fmt.Fprintf(w, "%sListener(nh):", nhIndent)
	for _, l := range nh.Listeners {
		fmt.Fprintf(w, " %s/%d(%d", ProtoName(l.Proto), l.Port, l.NH)
		if l.OutsideNH != 0 {
			fmt.Fprintf(w, ", outside %d", l.OutsideNH)
		}
		if l.HostOnly {
			fmt.Fprint(w, ", host only")
		}
		fmt.Fprint(w, ")")
	}
	fmt.Fprintln(w)
}

// nhTypeName is the type as Contrail's nh prints it; service is ours.
func nhTypeName(t table.NHType) string {
	switch t {
	case table.NHDiscard:
		return "Drop"
	case table.NHEncap:
		return "Encap"
	case table.NHTunnel:
		return "Tunnel"
	case table.NHComposite:
		return "Composite"
	case table.NHService:
		return "Service"
	case table.NHVRFTranslate:
		return "Vrf_Translate"
	case table.NHHost:
		return "Host"
	case table.NHResolve:
		return "Resolve"
	}
	return string(t)
}

func nhFlags(nh table.NextHop) string {
	switch nh.Type {
	case table.NHComposite:
		return "Valid, Policy, Ecmp,"
	case table.NHEncap, table.NHService:
		return "Valid, Policy,"
	case table.NHTunnel:
		if nh.DstMAC == (table.MAC{}) {
			return "Unresolved, MPLSoUDP,"
		}
		return "Valid, MPLSoUDP,"
	}
	return "Valid,"
}

// etherHex is an Ethernet header in hex, IPv4's type: what Contrail calls the
// encap data. The type is set per packet.
func etherHex(dst, src table.MAC) string {
	return fmt.Sprintf("% x % x 08 00", dst[:], src[:])
}
