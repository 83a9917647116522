package show

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/vragent/vragent/fastpath/table"
)

// Label is a label with what it leads to, for JSON and YAML.
type Label struct {
	table.LabelEntry
	Type table.NHType `json:"type"`
	Text string       `json:"text"`
}

// Labels returns all labels in order.
func (t *Tables) Labels() []Label {
	out := make([]Label, 0, len(t.State.Labels))
	for _, l := range t.State.Labels {
		nh, _ := t.NH(l.NH)
		out = append(out, Label{l, nh.Type, t.Describe(l.NH)})
	}
	return out
}

// WriteLabels prints labels as Contrail's mpls --dump does, with a column that
// says what the next hop is.
func WriteLabels(w io.Writer, labels []Label) {
	fmt.Fprintln(w, "MPLS Input Label Map")
	fmt.Fprintln(w)
	fmt.Fprintln(w, "   Label    NextHop")
	fmt.Fprintln(w, "-------------------")
	for _, l := range labels {
		fmt.Fprintf(w, "%8d%11d    %s\n", l.Label, l.NH, l.Text)
	}
}

// VRF is a VRF with what is in it, for JSON and YAML.
type VRF struct {
	table.VRF
	Label  table.Label `json:"label,omitempty"` // looks up in it at this end
	Vifs   int         `json:"vifs"`
	Routes int         `json:"routes"`
	Inet   int         `json:"inetRoutes"`
	Inet6  int         `json:"inet6Routes"`
}

// VRFs returns all VRFs in order.
func (t *Tables) VRFs() []VRF {
	out := make([]VRF, 0, len(t.State.VRFs))
	at := map[table.VRFID]*VRF{}
	for _, v := range t.State.VRFs {
		out = append(out, VRF{VRF: v})
		at[v.ID] = &out[len(out)-1] // capacity was reserved: out does not move
	}
	for _, v := range t.State.Vifs {
		if e := at[v.VRF]; e != nil {
			e.Vifs++
		}
	}
	for _, r := range t.State.Routes {
		e := at[r.VRF]
		if e == nil {
			continue
		}
		e.Routes++
		if r.Prefix.Addr().Is4() {
			e.Inet++
		} else {
			e.Inet6++
		}
	}
	for _, l := range t.State.Labels {
		nh, _ := t.NH(l.NH)
		if e := at[nh.VRF]; e != nil && nh.Type == table.NHVRFTranslate {
			e.Label = l.Label
		}
	}
	return out
}

// WriteVRFs prints a line for each VRF.
func WriteVRFs(w io.Writer, vrfs []VRF) {
	fmt.Fprintf(w, "%4s  %-40s %8s %5s %7s %7s  %s\n", "Vrf", "Name", "Label", "Vifs", "Inet", "Inet6", "Router")
	for _, v := range vrfs {
		label := "-"
		if v.Label != 0 {
			label = fmt.Sprint(v.Label)
		}
		fmt.Fprintf(w, "%4d  %-40s %8s %5d %7d %7d  %s\n", v.ID, v.Name, label, v.Vifs, v.Inet, v.Inet6, routers(v.VRF))
	}
}

func routers(v table.VRF) string {
	var addrs []netip.Addr
	for _, a := range []netip.Addr{v.Router4, v.Router6} {
		if a.IsValid() {
			addrs = append(addrs, a)
		}
	}
	return addrList(addrs)
}
