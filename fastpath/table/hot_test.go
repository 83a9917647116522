package table

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

// What workers call per packet or per flow allocates nothing.
func TestHotCallsDoNotAllocate(t *testing.T) {
	tab := built(t, network()).Tables()
	a4, a6, vipAddr := addr("198.51.100.65"), addr("2001:db8::11"), addr("198.51.100.250")
	var sink int
	for name, call := range map[string]func(){
		"Vif":     func() { sink += int(tab.Vif(web1).ID) },
		"Owns":    func() { tab.Vif(web1).Owns(a6) },
		"NH":      func() { sink += int(tab.NH(webs).ID + tab.NH(999).ID) },
		"Label":   func() { tab.Label(17) },
		"Peer":    func() { tab.Peer(a4) },
		"Lookup4": func() { tab.Lookup(red, a4) },
		"Lookup6": func() { tab.Lookup(red, a6) },
		"VRF":     func() { sink += int(tab.VRF(red).ID) },
		"PortMap": func() { tab.PortMap(web1, vipAddr, packet.ProtoTCP, 8888) },
		"HasVIP":  func() { tab.HasVIP(web1, vipAddr) },
		"Pick":    func() { sink += tab.NH(webs).Pick(12345) },
		"Holding": func() { sink += tab.Holding(tab.NH(webs), 3, true, false) },
		"DNAT":    func() { tab.NH(webs).DNAT(1) },
		"Name":    func() { sink += len(tab.NH(webs).MemberName(0)) },
		"Outside": func() { tab.Vif(web1).Outside(a6) },
		"Inside":  func() { tab.Vif(web1).Inside(a6) },
		"Listen":  func() { tab.NH(vip).Listener(packet.ProtoTCP, 9999) },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	_ = sink
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{5, 25, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			builder, c := backends(b, n)
			nh := builder.Tables().NH(c.ID)
			sink := 0
			for i := range b.N {
				sink += nh.Pick(uint64(i))
			}
			_ = sink
		})
	}
}

// big is a node at design scale: routes, tunnels to other nodes, services.
func big(routes, nodes, services int) State {
	s := State{VRFs: []VRF{{ID: red}}, Vifs: network().Vifs[:1]}
	r := rand.New(rand.NewPCG(5, 6))
	for i := range nodes {
		dip := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		s.NextHops = append(s.NextHops, tunnel(NextHopID(1+i), dip.String(), mac(byte(i))))
		s.Peers = append(s.Peers, dip)
	}
	for i := range services {
		c := NextHop{ID: NextHopID(1 + nodes + i), Type: NHComposite}
		for m := range 25 {
			c.Members = append(c.Members, Member{NH: NextHopID(1 + r.IntN(nodes)), Label: 100, Key: uint64(m)})
		}
		s.NextHops = append(s.NextHops, c)
	}
	for i := range routes {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32 + byte(i>>16), byte(i >> 8), byte(i)}), 32)
		s.Routes = append(s.Routes, Route{VRF: red, Prefix: p, NH: NextHopID(1 + r.IntN(nodes)), Label: 100})
	}
	return s
}

func BenchmarkBuild(b *testing.B) {
	s := big(250_000, 5_000, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if err := NewBuilder().Apply(&Delta{Upsert: s}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPublish is the cost of one change in tables of design scale.
func BenchmarkPublish(b *testing.B) {
	s := big(250_000, 5_000, 10_000)
	builder := NewBuilder()
	if err := builder.Apply(&Delta{Upsert: s}); err != nil {
		b.Fatal(err)
	}
	run := func(name string, d func(i int) Delta) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				d := d(i)
				if err := builder.Apply(&d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("route", func(i int) Delta {
		r := s.Routes[i%len(s.Routes)]
		r.Label = Label(100 + i%2 + 1)
		return Delta{Upsert: State{Routes: []Route{r}}}
	})
	run("tunnel", func(i int) Delta {
		n := s.NextHops[i%5000]
		n.DstMAC[0] = byte(2 + 4*(i%32))
		return Delta{Upsert: State{NextHops: []NextHop{n}}}
	})
	run("neighbour-lost-or-found", func(i int) Delta {
		n := s.NextHops[7]
		if i%2 == 0 {
			n.DstMAC = MAC{}
		}
		return Delta{Upsert: State{NextHops: []NextHop{n}}}
	})
	run("composite", func(i int) Delta {
		n := s.NextHops[5000+i%10_000]
		n.Port, n.Proto = uint16(1+i%2), 6
		return Delta{Upsert: State{NextHops: []NextHop{n}}}
	})
}

func BenchmarkLookup(b *testing.B) {
	s := big(250_000, 5_000, 0)
	builder := NewBuilder()
	if err := builder.Apply(&Delta{Upsert: s}); err != nil {
		b.Fatal(err)
	}
	tab := builder.Tables()
	addrs := make([]packet.Addr, 1<<12)
	for i := range addrs {
		addrs[i] = packet.AddrFrom(s.Routes[rand.IntN(len(s.Routes))].Prefix.Addr())
	}
	b.ResetTimer()
	for i := range b.N {
		if _, ok := tab.Lookup(red, addrs[i&(len(addrs)-1)]); !ok {
			b.Fatal("no route")
		}
	}
}
