package record

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Mark is what a tap says about itself, should the ledger be lost: whose it is,
// and what must not be given to another. The rest the controller says again.
//
//	vrouter:4f2c…:eth0 5b3c… 10.244.0.5,fd00::5~10.244.0.9 12/40/300007 k8s
//	plugin's part      VMI   own~cluster                   vif/nh/label network
//
// The mark of a pod on a tap has "@" and the path of its namespace before the network:
// the pod's end is found by it.
//
// "!" in the place of "~": the host reaches the pod by its cluster addresses alone.
type Mark struct {
	AttachmentKey
	VMI                 string
	Addrs, ClusterAddrs []netip.Addr
	Hidden              bool
	Vif, NH, Label      uint32 // 0: not known
	Network             string // name in the conflist; may be unknown
	Netns               string // of a pod on a tap
}

// MarkPrefix begins the mark of every pod's tap, also one that only the plugin
// has written.
const MarkPrefix = "vrouter:"

// markMost is what an interface's alias holds, in bytes: IFALIASZ of if.h less the
// final zero.
const markMost = 255

// String writes a mark. What does not fit is left out from its end; a mark without
// its addresses is none.
func (m *Mark) String() (string, bool) {
	text := fmt.Sprintf("%s%s:%s %s %s", MarkPrefix, m.ContainerID, m.Ifname, m.VMI, joinAddrs(m.Addrs))
	if len(m.ClusterAddrs) > 0 {
		sign := "~"
		if m.Hidden {
			sign = "!"
		}
		text += sign + joinAddrs(m.ClusterAddrs)
	}
	if len(text) > markMost || m.VMI == "" || len(m.Addrs) == 0 {
		return "", false
	}
	netns := ""
	if m.Netns != "" {
		netns = " @" + m.Netns
	}
	for _, more := range []string{fmt.Sprintf(" %d/%d/%d", m.Vif, m.NH, m.Label), netns, " " + m.Network} {
		if len(text)+len(more) > markMost || strings.ContainsAny(m.Netns+m.Network, " \n") {
			break
		}
		text += more
	}
	return strings.TrimSuffix(text, " "), true
}

func joinAddrs(list []netip.Addr) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}

// ParseMark reads the alias of a tap. A mark of which only the plugin's part is
// there has no VMI and no addresses; false: it is no tap of a pod.
func ParseMark(alias string) (*Mark, bool) {
	rest, ours := strings.CutPrefix(alias, MarkPrefix)
	fields := strings.Fields(rest)
	if !ours || len(fields) == 0 {
		return nil, false
	}
	id, ifname, whole := strings.Cut(fields[0], ":")
	m := &Mark{AttachmentKey: AttachmentKey{id, ifname}}
	if _, err := ParseAttachmentKey(m.AttachmentKey.String()); err != nil || !whole {
		return nil, false
	}
	if len(fields) < 3 || !m.addresses(fields[2]) {
		return &Mark{AttachmentKey: m.AttachmentKey}, true
	}
	m.VMI = fields[1]
	if len(fields) > 3 {
		m.numbers(fields[3])
	}
	if len(fields) > 4 {
		if path, tap := strings.CutPrefix(fields[4], "@"); tap {
			m.Netns, fields = path, fields[1:]
		}
	}
	if len(fields) > 4 {
		m.Network = fields[4]
	}
	return m, true
}

func (m *Mark) addresses(text string) bool {
	own, cluster := text, ""
	if at := strings.IndexAny(text, "~!"); at >= 0 {
		own, cluster = text[:at], text[at+1:]
		m.Hidden = text[at] == '!'
	}
	var ok bool
	if m.Addrs, ok = splitAddrs(own); !ok || cluster == "" {
		return ok
	}
	m.ClusterAddrs, ok = splitAddrs(cluster)
	return ok
}

func splitAddrs(text string) (out []netip.Addr, ok bool) {
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(part)
		if err != nil {
			return nil, false
		}
		out = append(out, a)
	}
	return out, true
}

func (m *Mark) numbers(text string) {
	var n [3]uint32
	for i, part := range strings.SplitN(text, "/", len(n)) {
		if v, err := strconv.ParseUint(part, 10, 32); err == nil {
			n[i] = uint32(v)
		}
	}
	m.Vif, m.NH, m.Label = n[0], n[1], n[2]
}

// Lost is an attachment that the kernel shows and the ledger does not know.
type Lost struct {
	Mark
	Tap     string
	Ifindex int // of Tap
	MTU     int // bytes
}
