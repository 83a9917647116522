package flow

import (
	"testing"
	"unsafe"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// The layout is shared memory: a change is a new layoutVersion.
func TestLayout(t *testing.T) {
	var e Entry
	var c Cold
	for name, at := range map[string][2]uintptr{
		"Entry":    {unsafe.Sizeof(e), 64}, // a cache line
		"wide":     {unsafe.Sizeof(wide{}), 64},
		"Cold":     {unsafe.Sizeof(c), 24},
		"header":   {unsafe.Sizeof(header{}), 40},
		"KeyNH":    {unsafe.Offsetof(e.KeyNH), 8},
		"Proto":    {unsafe.Offsetof(e.Proto), 16},
		"Used":     {unsafe.Offsetof(e.Used), 17},
		"Action":   {unsafe.Offsetof(e.Action), 18},
		"reach":    {unsafe.Offsetof(e.reach), 19},
		"TCP":      {unsafe.Offsetof(e.TCP), 22},
		"natEnds":  {unsafe.Offsetof(e.natEnds), keyWords * 8},
		"LastSeen": {unsafe.Offsetof(e.LastSeen), 44},
		"packets":  {unsafe.Offsetof(e.packets), 52},
		"Bytes":    {unsafe.Offsetof(e.Bytes), 56},
		"natSrc":   {unsafe.Offsetof(wide{}.natSrc), keyWide * 8},
		"Gen":      {unsafe.Offsetof(c.Gen), 8},
		"VRF":      {unsafe.Offsetof(c.VRF), 12},
		"Holder":   {unsafe.Offsetof(c.Holder), 16},
		"Life":     {unsafe.Offsetof(c.Life), 23},
	} {
		if at[0] != at[1] {
			t.Errorf("%s: %d, want %d", name, at[0], at[1])
		}
	}
}

// What Contrail's flow command prints.
func TestStrings(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{ActionForward.String(), "F"}, {ActionNAT.String(), "N"}, {ActionDrop.String(), "D"}, {ActionNone.String(), "U"}, {Action(9).String(), "U"},

		{NAT(0).String(), ""}, {NATSource.String(), "S"}, {NATDest.String(), "D"},
		{(NATDest | NATDport).String(), "DPd"}, {(NATSource | NATSport).String(), "SPs"},
		{(NATSource | NATDest | NATDport).String(), "SDPd"}, {(NATSource | NATSport | NATDest | NATDport).String(), "SPsDPd"},

		{TCPState(0).String(), ""}, {SYN.String(), "S"}, {(SYN | SYNr).String(), "SSr"},
		{(SYN | SYNr | EST | ESTr).String(), "SSrEEr"}, {(SYN | SYNr | EST | ESTr | FIN | HALF).String(), "SSrEErFC"},
		{(SYN | SYNr | EST | ESTr | FIN | FINr | DEAD).String(), "SSrEErFFrD"}, {(SYN | RST | DEAD).String(), "SRD"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

func TestTCPState(t *testing.T) {
	for _, c := range []struct {
		state, reverse    TCPState
		established, over bool
	}{
		{0, 0, false, false},
		{SYN, SYNr, false, false},
		{SYN | SYNr | ESTr, SYN | SYNr | EST, false, false},
		{SYN | SYNr | EST | ESTr, SYN | SYNr | EST | ESTr, true, false},
		{EST | ESTr | FIN | HALF, EST | ESTr | FINr | HALF, true, false},
		{EST | ESTr | FIN | FINr, EST | ESTr | FIN | FINr, false, true},
		{EST | ESTr | RST, EST | ESTr | RST, false, true},
		{EST | ESTr | DEAD, EST | ESTr | DEAD, false, true},
	} {
		if got := c.state.Reverse(); got != c.reverse || got.Reverse() != c.state {
			t.Errorf("%v seen from the other side is %v, want %v", c.state, got, c.reverse)
		}
		if c.state.Established() != c.established || c.state.Over() != c.over {
			t.Errorf("%v: established %v, over %v", c.state, c.state.Established(), c.state.Over())
		}
	}
}

func TestLabelECMP(t *testing.T) {
	for _, c := range []struct {
		label  table.Label
		member int
		want   int
	}{{0, -1, -1}, {16, 0, 0}, {table.MaxLabel, table.MaxMembers - 1, 4094}, {100, 4095, -1}, {100, 1 << 20, -1}} {
		packed := PackLabelECMP(c.label, c.member)
		e, r := Entry{LabelECMP: packed}, Record{LabelECMP: packed}
		if e.Label() != c.label || r.Label() != c.label || r.Member() != c.want {
			t.Errorf("label %d member %d became %d and %d", c.label, c.member, e.Label(), r.Member())
		}
	}
}

func TestIndex(t *testing.T) {
	for _, c := range []struct {
		worker int
		slot   uint32
	}{{0, 0}, {1, 5}, {255, maxCells - 2}} {
		if w, s := Split(Index(c.worker, c.slot)); w != c.worker || s != c.slot {
			t.Errorf("worker %d slot %d became %d and %d", c.worker, c.slot, w, s)
		}
	}
}

func TestRank(t *testing.T) {
	tcp := func(s TCPState) Entry {
		return Entry{Proto: packet.ProtoTCP, Used: slotUsed, Action: ActionForward, TCP: s}
	}
	for _, c := range []struct {
		what string
		e    Entry
		want rank
	}{
		{"empty", Entry{}, rankKeep},
		{"undecided", Entry{Proto: packet.ProtoTCP, Used: slotUsed}, rankDead},
		{"refused", Entry{Proto: packet.ProtoUDP, Used: slotUsed, Action: ActionDrop}, rankDead},
		{"UDP", Entry{Proto: packet.ProtoUDP, Used: slotUsed, Action: ActionNAT}, rankStateless},
		{"SCTP", Entry{Proto: packet.ProtoSCTP, Used: slotUsed, Action: ActionForward}, rankStateless},
		{"SYN", tcp(SYN), rankEmbryonic},
		{"SYN and its answer", tcp(SYN | SYNr | EST), rankEmbryonic},
		{"established", tcp(SYN | SYNr | EST | ESTr), rankKeep},
		{"half closed", tcp(EST | ESTr | FIN | HALF), rankKeep},
		{"closed", tcp(EST | ESTr | FIN | FINr), rankDead},
		{"reset", tcp(SYN | RST), rankDead},
		{"dead", tcp(EST | ESTr | DEAD), rankDead},
	} {
		if got := c.e.rank(); got != c.want {
			t.Errorf("%s has rank %d, want %d", c.what, got, c.want)
		}
	}
}
