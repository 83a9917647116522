package ipam

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

var epoch = time.Unix(1_000_000, 0)

func block(t *testing.T, prefix string, start int) *Block {
	t.Helper()
	b, err := NewBlock(netip.MustParsePrefix(prefix), start)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pool(t *testing.T, prefixes ...string) *Pool {
	t.Helper()
	p := &Pool{}
	for _, s := range prefixes {
		p.Add(block(t, s, 0))
	}
	return p
}

func TestNewBlockRefuses(t *testing.T) {
	for _, s := range []string{"192.0.2.1/26", "2001:db8::/64", "0.0.0.0/0"} {
		if _, err := NewBlock(netip.MustParsePrefix(s), 0); err == nil {
			t.Errorf("block %s: no error", s)
		}
	}
	if _, err := NewBlock(netip.Prefix{}, 0); err == nil {
		t.Error("zero prefix: no error")
	}
}

// Every address but the first is handed out exactly once, in both families.
func TestBlockIsUsedUp(t *testing.T) {
	for _, c := range []struct {
		prefix string
		size   int
	}{
		{"192.0.2.64/26", 63}, {"2001:db8::40/122", 63}, {"192.0.2.7/32", 1}, {"2001:db8::7/128", 1}, {"198.51.100.0/31", 1},
	} {
		p := pool(t, c.prefix)
		if p.Free() != c.size {
			t.Errorf("%s: %d free, want %d", c.prefix, p.Free(), c.size)
		}
		seen := map[netip.Addr]bool{}
		for range c.size {
			a, ok := p.Allocate(epoch)
			if !ok || seen[a] || !netip.MustParsePrefix(c.prefix).Contains(a) {
				t.Fatalf("%s: address %v ok=%t seen=%t", c.prefix, a, ok, seen[a])
			}
			seen[a] = true
		}
		first := netip.MustParsePrefix(c.prefix).Addr()
		if c.size > 1 && seen[first] {
			t.Errorf("%s: the reserved address was handed out", c.prefix)
		}
		if a, ok := p.Allocate(epoch); ok {
			t.Errorf("%s: %v handed out of a full block", c.prefix, a)
		}
	}
}

// A freed address comes back only when it has rested, or when nothing else is
// left, longest rest first.
func TestQuarantine(t *testing.T) {
	p := pool(t, "192.0.2.0/29") // seven addresses
	var got []netip.Addr
	for range 3 {
		a, _ := p.Allocate(epoch)
		got = append(got, a)
	}
	p.Release(got[1], epoch)
	p.Release(got[0], epoch.Add(time.Second))
	for range 4 {
		a, ok := p.Allocate(epoch.Add(2 * time.Second))
		if !ok || a == got[0] || a == got[1] {
			t.Fatalf("resting address %v handed out while others were free", a)
		}
	}
	if a, _ := p.Allocate(epoch.Add(2 * time.Second)); a != got[1] {
		t.Errorf("got %v, want the one freed first, %v", a, got[1])
	}
	p.Release(got[1], epoch.Add(3*time.Second))
	if a, _ := p.Allocate(epoch.Add(Quarantine + time.Second)); a != got[0] {
		t.Errorf("got %v, want the one that has rested, %v", a, got[0])
	}
}

func TestNextFitStartsWhereTold(t *testing.T) {
	p := &Pool{}
	p.Add(block(t, "192.0.2.0/26", 40))
	if a, _ := p.Allocate(epoch); a != netip.MustParseAddr("192.0.2.40") {
		t.Errorf("first address %v", a)
	}
	for _, start := range []int{-1, -64, 1 << 40} {
		if _, err := NewBlock(netip.MustParsePrefix("192.0.2.0/26"), start); err != nil {
			t.Errorf("start %d: %v", start, err)
		}
	}
}

func TestTakeAndRelease(t *testing.T) {
	p := pool(t, "192.0.2.0/26", "198.51.100.64/26")
	a := netip.MustParseAddr("198.51.100.70")
	if !p.Take(a) || p.Take(a) {
		t.Fatal("take: want true, then false")
	}
	if !p.Take(netip.MustParseAddr("192.0.2.0")) {
		t.Error("a reserved address that is in use must be accepted")
	}
	if p.Take(netip.MustParseAddr("203.0.113.1")) || p.Release(netip.MustParseAddr("203.0.113.1"), epoch) {
		t.Error("an address of no block was accepted")
	}
	if !p.Release(a, epoch) || p.Release(a, epoch) {
		t.Error("release: want true, then false")
	}
}

// A lease that ends gives nothing more, forgets nothing, and can come back.
func TestRetiredBlock(t *testing.T) {
	p := pool(t, "192.0.2.0/30")
	a, _ := p.Allocate(epoch)
	p.Remove(netip.MustParsePrefix("192.0.2.0/30"))
	if _, ok := p.Allocate(epoch); ok || p.Free() != 0 || len(p.Blocks()) != 0 {
		t.Fatal("a retired block still gives addresses")
	}
	p.Add(block(t, "192.0.2.0/30", 0))
	if got := p.Blocks()[0]; !got.Has(a) || got.Used() != 1 {
		t.Fatal("a block that came back forgot its addresses")
	}
	p.Remove(netip.MustParsePrefix("192.0.2.0/30"))
	if !p.Release(a, epoch) || len(p.retired) != 0 {
		t.Error("the last address of a retired block was not freed")
	}
	p.Remove(netip.MustParsePrefix("192.0.2.0/30"))
}

// The pool agrees with a map of what is in use.
func TestAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	p := pool(t, "192.0.2.0/27", "192.0.2.64/26")
	inUse := map[netip.Addr]bool{}
	now := epoch
	for range 20_000 {
		now = now.Add(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		if rnd.IntN(2) == 0 {
			a, ok := p.Allocate(now)
			if ok != (len(inUse) < 31+63) || inUse[a] {
				t.Fatalf("allocate: %v %t with %d in use", a, ok, len(inUse))
			}
			if ok {
				inUse[a] = true
			}
			continue
		}
		for a := range inUse {
			if !p.Release(a, now) {
				t.Fatalf("release %v: was not in use", a)
			}
			delete(inUse, a)
			break
		}
		if p.Free() != 31+63-len(inUse) {
			t.Fatalf("%d free with %d in use", p.Free(), len(inUse))
		}
	}
}

func TestInUse(t *testing.T) {
	p := &Pool{}
	for _, prefix := range []string{"192.0.2.0/30", "192.0.2.8/30"} {
		b, err := NewBlock(netip.MustParsePrefix(prefix), 0)
		if err != nil {
			t.Fatal(err)
		}
		p.Add(b)
	}
	one, other := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.9")
	p.Take(one)
	p.Take(other)
	p.Remove(netip.MustParsePrefix("192.0.2.0/30")) // its address stays in use
	if got := p.InUse(); len(got) != 2 || !p.Has(one) || !p.Has(other) || p.Has(one.Next()) {
		t.Errorf("in use: %v", got)
	}
	p.Release(one, time.Time{})
	if got := p.InUse(); len(got) != 1 || got[0] != other || p.Has(one) {
		t.Errorf("in use: %v", got)
	}
}
