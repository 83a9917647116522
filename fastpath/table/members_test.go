package table

import (
	"strings"
	"testing"
	"unsafe"
)

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
