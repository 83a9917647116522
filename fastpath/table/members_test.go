package table

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

var (
	dnat4 = netip.MustParseAddrPort("192.0.2.9:6443")
	dnat6 = netip.MustParseAddrPort("[2001:db8::9]:443")
)

// What is put in comes back, names of every length and all kinds of members; put in again
// it changes nothing.
func TestMembersComeBack(t *testing.T) {
	c := NextHop{ID: 60, Type: NHComposite, VRF: red, Proto: 6, Port: 443, Affinity: 10800, Members: []Member{
		{},
		{NH: toHost, Key: 1, Name: "external4", DNAT: dnat4},
		{NH: toHost, Key: 2, DNAT: dnat6, Draining: true},
		{NH: toNode2, Key: ^uint64(0), Label: MaxLabel, Name: "größer/als ASCII"},
		{Name: "a hole's", Key: 7, DNAT: dnat4},
	}}
	for n := range 300 {
		c.Members = append(c.Members, Member{NH: toWeb1, Key: uint64(1000 + n), Name: strings.Repeat("x", n), Draining: n%3 == 0})
	}
	c.Members = append(c.Members, Member{}, Member{})
	b := built(t, network())
	for _, members := range [][]Member{c.Members, c.Members[5:], c.Members[:1], nil, {{NH: toWeb1}}} {
		c.Members = members
		apply(t, b, nhs(c))
		before := b.Tables()
		s := b.State()
		i := slices.IndexFunc(s.NextHops, func(n NextHop) bool { return n.ID == c.ID })
		if !reflect.DeepEqual(s.NextHops[i], c) {
			t.Fatalf("came back as %+v\nwant %+v", s.NextHops[i], c)
		}
		if apply(t, b, nhs(c)); b.Tables() != before {
			t.Error("the same again is a change")
		}
	}
}

// Go's garbage collector looks into a composite once, not into its members.
func TestMembersHoldNoPointers(t *testing.T) {
	lists := 0
	var walk func(name string, typ reflect.Type)
	walk = func(name string, typ reflect.Type) {
		for i := range typ.NumField() {
			switch f := typ.Field(i); f.Type.Kind() {
			case reflect.Slice:
				if lists++; pointers(f.Type.Elem()) {
					t.Errorf("%s.%s: %v holds pointers", name, f.Name, f.Type.Elem())
				}
			case reflect.Struct:
				walk(name+"."+f.Name, f.Type)
			case reflect.Map, reflect.Interface:
				t.Errorf("%s.%s is a %v", name, f.Name, f.Type)
			}
		}
	}
	if walk("NH", reflect.TypeFor[NH]()); lists != 5 {
		t.Errorf("%d lists", lists)
	}
	n := NextHop{ID: 60, Type: NHComposite}
	for i := range 1000 {
		n.Members = append(n.Members, Member{NH: toWeb1, Key: uint64(i), Name: fmt.Sprint("default/web-", i)})
	}
	tables, nh := built(t, network()).Tables(), new(NH)
	if objects := testing.AllocsPerRun(10, func() { nh = newNH(&n); nh.resolve(tables) }); objects > 4 {
		t.Errorf("%v objects, want the next hop, its members, their names and keys", objects)
	}
	if got := testing.AllocsPerRun(10, func() { equalNH(nh, &n) }); got != 0 {
		t.Errorf("comparing makes %v objects", got)
	}
}

// pointers reports whether values of type typ hold any.
func pointers(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Array:
		return pointers(typ.Elem())
	case reflect.Struct:
		for i := range typ.NumField() {
			if pointers(typ.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Bool, reflect.Int, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return false
	}
	return true
}

// Types and kinds that were decoded one by one are kept as one text.
func TestConstantsAreShared(t *testing.T) {
	text := func(s string) *byte { return unsafe.StringData(s) }
	for _, n := range network().NextHops {
		decoded := n
		decoded.Type = NHType(strings.Clone(string(n.Type)))
		if got := newNH(&decoded).Type; got != n.Type || text(string(got)) != text(string(newNH(&n).Type)) {
			t.Errorf("%s is kept as another text", n.name())
		}
	}
	for _, v := range network().Vifs {
		decoded := v
		decoded.Kind = VifKind(strings.Clone(string(v.Kind)))
		if got := newVif(&decoded).Kind; got != v.Kind || text(string(got)) != text(string(newVif(&v).Kind)) {
			t.Errorf("%s: kind is kept as another text", v.name())
		}
	}
}

// FuzzNH makes two next hops that differ in little or nothing. Each must come back from the
// form in which tables keep it, whatever becomes of what was put in, and equalNH must see
// every difference that the dull comparison of both sees.
func FuzzNH(f *testing.F) {
	for seed := range uint64(2000) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		m := mutator{rand.New(rand.NewPCG(seed, 11))}
		var x NextHop
		for range m.IntN(60) {
			m.alter(reflect.ValueOf(&x).Elem())
			m.alter(reflect.ValueOf(&x.Members).Elem())
		}
		y := x
		y.Members, y.Listeners = slices.Clone(x.Members), slices.Clone(x.Listeners)
		for range m.IntN(3) {
			m.alter(reflect.ValueOf(pick(m, []any{&y, &y.Members})).Elem())
		}
		n, normalX, normalY := newNH(&x), normal(x), normal(y)
		if got, want := equalNH(n, &y), reflect.DeepEqual(normalX, normalY); got != want {
			t.Errorf("equal: %v, want %v\n%+v\n%+v", got, want, x, y)
		}
		if !equalNH(n, &x) || !equalNH(n, &normalX) {
			t.Errorf("%+v is not equal to itself", x)
		}
		clear(x.Members)
		clear(x.Listeners)
		if got := whole(n); !reflect.DeepEqual(got, normalX) {
			t.Errorf("came back as %+v\nwant %+v", got, normalX)
		}
	})
}

// normal is n with everything written in one way.
func normal(n NextHop) NextHop {
	n.Sip, n.Dip = n.Sip.Unmap(), n.Dip.Unmap()
	n.Members, n.Listeners = append([]Member(nil), n.Members...), append([]Listener(nil), n.Listeners...)
	for i := range n.Members {
		if to := &n.Members[i].DNAT; to.IsValid() {
			*to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
		} else {
			*to = netip.AddrPort{}
		}
	}
	return n
}

// alter changes something in v, a little; now and then to what is the same.
func (m mutator) alter(v reflect.Value) {
	switch a := v.Addr().Interface().(type) {
	case *netip.Addr:
		*a = pick(m, []netip.Addr{{}, ip("192.0.2.9"), ip("::ffff:192.0.2.9"), ip("192.0.2.10"), ip("2001:db8::9"), ip("::"), ip("fe80::1%eth0")})
		return
	case *netip.AddrPort:
		var to netip.Addr
		m.alter(reflect.ValueOf(&to).Elem())
		*a = netip.AddrPortFrom(to, uint16(m.IntN(3)))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int:
		v.SetInt(v.Int() + 1)
	case reflect.String:
		v.SetString(pick(m, []string{"", "a", "b", "aa", "ab", "ba", v.String() + "a"}))
	case reflect.Array:
		m.alter(v.Index(m.IntN(v.Len())))
	case reflect.Struct:
		m.alter(v.Field(m.IntN(v.NumField())))
	case reflect.Slice:
		m.alterList(v)
	default:
		v.SetUint(v.Uint() + 1)
	}
}

// alterList changes the elements of v, or which there are and in what order.
func (m mutator) alterList(v reflect.Value) {
	n := v.Len()
	switch i := m.IntN(n + 1); {
	case i == n || m.IntN(8) == 0:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case m.IntN(8) == 0:
		v.Set(reflect.AppendSlice(v.Slice3(0, i, i), v.Slice(i+1, n)))
	case m.IntN(8) == 0:
		reflect.Swapper(v.Interface())(i, m.IntN(n))
	default:
		m.alter(v.Index(i))
	}
}
