package steer_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// TestCacheAlone: both processes are killed, and a connection goes on as if nothing were.
// Who comes next finds it, with its counters.
func TestCacheAlone(t *testing.T) {
	b := newBed(t, 1)
	b.s.Close()
	child := startChild(t, b.node)
	b.s = b.open(t)
	b.learn(t)
	client, server := connect(t, b.a, netip.AddrPortFrom(b.b.Addr, 8080), listen(t, b.b, b.b.Addr, 8080))
	forward, back := pair(tuple(client, packet.ProtoTCP), tuple(server, packet.ProtoTCP), 1, 2)
	forward.NH, back.NH, forward.Index = toB, toA, 4711
	b.put(t, forward)
	b.put(t, back)
	b.c.Slots()[5].Begin()
	must(t, b.s.Close())
	child.Process.Kill()
	child.Wait()
	const size = 8 << 20
	stream(t, client, server, size)
	stream(t, server, client, size)
	wantMute(t, b.node, b.a, b.b.Addr) // nobody decides about anything else

	b.s = b.open(t)
	b.c = b.s.Cache()
	got, ok := b.record(t, forward.Key)
	if !ok || got.Flow != *forward || got.Bytes < size || b.c.Len() != 2 {
		t.Errorf("of %d flows, %+v", b.c.Len(), got)
	}
	if b.c.Generation(scope) != 5 || b.c.Slots()[5].Turn != 1 {
		t.Errorf("generation %d, turn %d", b.c.Generation(scope), b.c.Slots()[5].Turn)
	}
	stream(t, client, server, size)
	forward.NH = toHost
	b.put(t, forward) // its next hop is still known
	must(t, b.c.SetPeers([]packet.Addr{packet.AddrFrom(b.fab.second)}))
	must(t, b.c.RemoveNextHops([]uint32{toHost}))
	if err := b.c.Put(forward); !errors.Is(err, offload.ErrNextHop) {
		t.Error(err)
	}
}

// TestCacheUpgrade: a cache of another layout or size is replaced by an empty one, and one that is
// not wanted is removed; steering goes on.
func TestCacheUpgrade(t *testing.T) {
	b := newBed(t, 1)
	ip := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(10).Bytes()
	from, frame := b.entering("a", ip)
	f := flowOf(t, from, ip, ip, toB)
	pin := filepath.Join(b.Dir, "next_hops")
	for _, c := range []struct {
		name   string
		change func(*steer.Config)
		room   int
		limits string
		old    bool
	}{
		{"same", func(*steer.Config) {}, 1024, "", false},
		{"another size", func(cfg *steer.Config) { cfg.CacheFlows = 2048 }, 2048, "", false},
		{"another layout", func(cfg *steer.Config) {
			cfg.CacheFlows = 2048
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 16})
			must(t, err)
			defer m.Close()
			must(t, os.Remove(pin))
			must(t, m.Pin(pin))
		}, 2048, "", false},
		{"none", func(cfg *steer.Config) { cfg.CacheFlows = 0 }, 0, "", false},
		{"a kernel without a helper", func(cfg *steer.Config) { cfg.CacheFlows = 512 }, 0, "cannot forward flows itself: helper FnNone", true},
		{"again", func(*steer.Config) {}, 1024, "", false},
	} {
		kept := c.name == "same"
		if b.c.Cap() > 0 {
			b.put(t, f)
		}
		must(t, b.s.Close())
		cfg := steer.Config{BPFDir: b.Dir, PuntOuter: b.Outer, PuntInner: b.Inner, Workers: 1, CacheFlows: 1024}
		c.change(&cfg)
		var err error
		in(t, b.NS, func() {
			if b.s, err = steer.OpenOld(cfg, !c.old, true); err == nil && !c.old {
				err = b.s.Close()
				b.s, _ = steer.Open(cfg)
			}
		})
		must(t, err)
		t.Cleanup(func() { b.s.Close() })
		wantVifs(t, b.s, 1, 2, 250, 1000)
		b.c = b.s.Cache()
		if b.c.Cap() != c.room || (b.c.Len() != 0) != kept {
			t.Errorf("%s: %d flows, room for %d", c.name, b.c.Len(), b.c.Cap())
		}
		if limits := strings.Join(b.c.Limits(), " "); !strings.Contains(limits, c.limits) || c.limits == "" && limits != "" {
			t.Errorf("%s: limits %q", c.name, limits)
		}
		b.learn(t)
		if c.room == 0 {
			if err := b.c.Put(f); !errors.Is(err, offload.ErrFull) || len(b.records(t)) != 0 || len(b.c.Slots()) != 0 {
				t.Errorf("%s: %v", c.name, err)
			}
			if _, err := os.Stat(pin); !os.IsNotExist(err) {
				t.Errorf("%s: its maps are still pinned: %v", c.name, err)
			}
		}
		b.listen(t)
		write(t, b.at["a"], frame)
		if kept {
			wantFrame(t, b.at["b"], func() []byte {
				_, f := b.leaving(toB, build.IPv4("192.0.2.1", "192.0.2.2").TTL(63).UDP(1, 2).Payload(10).Bytes())
				return f
			}())
		} else {
			b.wantUp(t, frame)
		}
		must(t, b.r.close())
		b.c.Delete(f.Key)
	}
}

// TestNoDecap6: where the kernel cannot take a tunnel off IPv6, such packets go up, IPv4 does not.
func TestNoDecap6(t *testing.T) {
	b := newBed(t, 1)
	must(t, b.s.Close())
	var err error
	in(t, b.NS, func() {
		b.s, err = steer.OpenOld(steer.Config{BPFDir: b.Dir, PuntOuter: b.Outer, PuntInner: b.Inner, Workers: 1, CacheFlows: 1024}, true, false)
	})
	must(t, err)
	t.Cleanup(func() { b.s.Close() })
	b.learn(t)
	b.listen(t)
	if l := b.c.Limits(); len(l) != 1 || !strings.HasSuffix(l[0], ".") {
		t.Errorf("limits %q", l)
	}
	ip := build.IPv6("2001:db8::1", "2001:db8::2").UDP(1, 2).Payload(10).Bytes()
	from, frame := b.entering("udp", ip)
	b.put(t, flowOf(t, from, ip, ip, toB))
	write(t, b.at["fabric"], frame)
	b.wantUp(t, frame)
	ip = build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(10).Bytes()
	_, frame = b.entering("udp", ip)
	b.put(t, flowOf(t, from, ip, ip, toB))
	write(t, b.at["fabric"], frame)
	_, want := b.leaving(toB, build.IPv4("192.0.2.1", "192.0.2.2").TTL(63).UDP(1, 2).Payload(10).Bytes())
	wantFrame(t, b.at["b"], want)
}

// TestCacheRefused: a kernel that does not take the cache gets steering without one.
func TestCacheRefused(t *testing.T) {
	n := newNode(t, "n", 1)
	a, b := n.addPod(t, 1, 1500), n.addPod(t, 2, 1500)
	var s *steer.Steer
	var err error
	in(t, n.NS, func() {
		s, err = steer.Open(steer.Config{BPFDir: n.Dir, PuntOuter: n.Outer, PuntInner: n.Inner, Workers: 1, CacheFlows: 1 << 31}) // no map is as large
	})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	if l := strings.Join(s.Cache().Limits(), " "); s.Cache().Cap() != 0 || !strings.Contains(l, "cannot forward flows itself") {
		t.Errorf("room for %d flows, limits %q", s.Cache().Cap(), l)
	}
	n.attach(t, s, a)
	n.attach(t, s, b)
	startRouter(t, n, s)
	transfer(t, a, b, b.Addr, 1<<16)
}
