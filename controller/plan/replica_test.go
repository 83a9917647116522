package plan

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vragent/vragent/controller/southbound"
)

// replicas are two controllers that plan the same cluster. The agents obey the
// first one; both hear what they say.
type replicas struct {
	world
	lead, other *Memory
	told        map[string]map[PortMapKey]uint16 // by VMI: what its agent has been told and has not said yet
	done        bool                             // the agents have acknowledged the last publication
	seen        Cluster                          // by the other one
}

func (r *replicas) settled(m *Memory, agents bool) map[Key]bool {
	out := map[Key]bool{}
	for k := range m.Awaited() {
		out[k] = agents && r.done
	}
	return out
}

// turn has one of them plan.
func (r *replicas) turn(lead bool) *Output {
	in := Input{Config: r.config, Cluster: &r.cluster, Leases: r.leases, Reports: maps.Clone(r.reports), Now: r.now}
	if !lead {
		in.Cluster, in.Memory, in.Settled = &r.seen, r.other, r.settled(r.other, false)
		out := Build(in)
		r.other = out.Memory
		return out
	}
	in.Memory, in.Settled = r.lead, r.settled(r.lead, true)
	out := Build(in)
	for node := range r.reports {
		for k, res := range out.Intents.Sets[nodeSet(node)] {
			if k.Type == southbound.Type_TYPE_VMI {
				now := portMapsOf(res)
				if !maps.Equal(now, r.told[k.Name]) {
					r.done = false
				}
				r.told[k.Name] = now
			}
		}
	}
	r.lead, r.leases = out.Memory, append(r.leases, out.Leases.Create...)
	return out
}

// obey has the agents do what they were told, and say so.
func (r *replicas) obey() {
	for node := range r.reports {
		r.report(node, func(rep *Report) {
			for uuid, v := range rep.VMIs {
				v.PortMaps = r.told[uuid]
				rep.VMIs[uuid] = v
			}
		})
	}
	r.done = true
}

func newReplicas(t *testing.T, seed uint64) *replicas {
	w := somewhere(rand.New(rand.NewPCG(seed, 9)))
	r := &replicas{world: *w, told: map[string]map[PortMapKey]uint16{}}
	r.now, r.seen = time.Unix(1000, 0), r.cluster
	for range 3 {
		r.turn(true)
		r.obey()
	}
	return r
}

func members(o *Output) []string {
	var out []string
	for _, lb := range o.Model.LoadBalancers {
		for _, l := range lb.Listeners {
			for _, m := range l.Members {
				if m.Pending == "" {
					out = append(out, l.Name+" "+m.Name)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// A controller that does not remember, or has not seen, what another one keeps
// for a removed member announces a new member as soon as its agent has said so.
func TestReplicasNeedNotAgreeOnWhatTheyKeep(t *testing.T) {
	for seed := range uint64(50) {
		r := newReplicas(t, seed)
		all := r.cluster.Slices
		r.cluster.Slices = nil
		r.turn(true) // it keeps the port maps now; the other one has not seen any of them
		r.obey()
		r.seen.Slices = nil
		for _, v := range r.reports { // as if it had never heard of them
			for uuid, a := range v.VMIs {
				a.PortMaps = nil
				v.VMIs[uuid] = a
			}
		}
		r.turn(false)
		r.cluster.Slices, r.seen.Slices = all, all
		r.turn(true)
		r.obey()
		want := members(r.turn(true))
		if got := members(r.turn(false)); !slices.Equal(got, want) {
			t.Fatalf("seed %d: the other one announces %v, not %v", seed, got, want)
		}
	}
}

// A successor keeps what its predecessor kept: agents still know the members.
func TestASuccessorKeepsPortMaps(t *testing.T) {
	for seed := range uint64(20) {
		r := newReplicas(t, seed)
		r.cluster.Slices, r.lead = nil, nil
		r.turn(true)
		for _, rep := range r.reports {
			for uuid, v := range rep.VMIs {
				if !maps.Equal(r.told[uuid], v.PortMaps) {
					t.Fatalf("seed %d: %v is told %v, and has %v", seed, uuid, r.told[uuid], v.PortMaps)
				}
			}
		}
		r.obey()
		r.now = r.now.Add(HoldTime)
		r.turn(true)
		for uuid, now := range r.told {
			if len(now) != 0 {
				t.Fatalf("seed %d: %v keeps %v for ever", seed, uuid, now)
			}
		}
	}
}

// However two controllers and the agents come to their turns, what either of
// them announces is there as long as it was so when the agents last spoke; and in
// the end both announce the same, without a wait for what was kept.
func TestReplicasComeTogether(t *testing.T) {
	for seed := range uint64(100) {
		r, random := newReplicas(t, seed), rand.New(rand.NewPCG(seed, 10))
		all := r.cluster.Slices
		for range 40 {
			switch random.IntN(6) {
			case 0:
				r.cluster.Slices = all[:random.IntN(len(all)+1)]
			case 1:
				r.seen = r.cluster
			case 2:
				r.obey()
			case 3:
				r.now = r.now.Add(time.Duration(random.IntN(20)) * time.Second)
			case 4:
				r.turn(true)
			case 5:
				r.turn(false)
			}
		}
		r.cluster.Slices = all
		r.seen = r.cluster
		var want, got []string
		for range 3 {
			want, got = members(r.turn(true)), members(r.turn(false))
			r.obey()
		}
		if late := r.now.Add(5 * time.Second); !slices.Equal(want, got) {
			r.now = late // what one of them had let go
			got = members(r.turn(false))
		}
		if !slices.Equal(want, got) {
			t.Fatalf("seed %d: %v, and the other one %v", seed, want, got)
		}
	}
}
