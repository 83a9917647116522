package show

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

const vifIndent = "            "

const vifLegend = `Vrouter Interface Table

Flags: P=Policy (flows, RPF), L3=Layer 3, T=Tunnels, H=Host (no RPF)

`

// WriteVifs prints vifs as Contrail's vif does, the legend first.
func WriteVifs(w io.Writer, vifs []control.VifStats) {
	fmt.Fprint(w, vifLegend)
	for _, v := range vifs {
		writeVif(w, v)
		fmt.Fprintln(w)
	}
}

func writeVif(w io.Writer, v control.VifStats) {
	fmt.Fprintf(w, "%-11s OS: %s NH: %d\n", fmt.Sprintf("vif0/%d", v.ID), v.Name, v.NH)
	fmt.Fprintf(w, "%sType:%s HWaddr:%v IPaddr:%s\n", vifIndent, vifTypeName(v.Kind), vifHW(v.Vif), addrList(v.Addrs))
	fmt.Fprintf(w, "%sVrf:%d Flags:%s QOS:-1 MTU:%d\n", vifIndent, v.VRF, vifFlags(v.Kind), v.MTU)
	if v.Kind == table.VifVirtual {
		fmt.Fprintf(w, "%sPod:%s MAC:%v VMI:%s\n", vifIndent, v.Owner, v.MAC, v.VMI)
	}
	if len(v.ClusterAddrs) > 0 {
		fmt.Fprintf(w, "%sOutside of its VRF:%s\n", vifIndent, addrList(v.ClusterAddrs))
	}
	fmt.Fprintf(w, "%sRX packets:%d  bytes:%d errors:0\n", vifIndent, v.RxPackets, v.RxBytes)
	fmt.Fprintf(w, "%sTX packets:%d  bytes:%d errors:0\n", vifIndent, v.TxPackets, v.TxBytes)
	fmt.Fprintf(w, "%sDrops:%d Flows:%d\n", vifIndent, v.Drops, v.Flows)
	if !v.Attached {
		fmt.Fprintf(w, "%sNot attached: the device is gone, or not there yet\n", vifIndent)
	}
}

// vifHW is the address frames come from at a pod, as in Contrail; the device's
// own elsewhere.
func vifHW(v table.Vif) table.MAC {
	if v.Kind == table.VifVirtual {
		return table.RouterMAC
	}
	return v.MAC
}

func vifTypeName(k table.VifKind) string {
	switch k {
	case table.VifFabric:
		return "Physical"
	case table.VifHost:
		return "Host"
	case table.VifVirtual:
		return "Virtual"
	}
	return string(k)
}

func vifFlags(k table.VifKind) string {
	switch k {
	case table.VifFabric:
		return "L3T"
	case table.VifHost:
		return "L3H"
	}
	return "PL3"
}

func addrList(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "-"
	}
	s := addrs[0].String()
	for _, a := range addrs[1:] {
		s += "," + a.String()
	}
	return s
}
