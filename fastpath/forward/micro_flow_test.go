package forward

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/flow/store"
)

// microTablesAlone compares the flow table with a Go map and with a sorted list,
// which are slow and plain: ns to find a random one of all keys.
func microTablesAlone() string {
	var s strings.Builder
	fmt.Fprintf(&s, "\nThe flow table alone, ns to find a random one of all flows (IPv4).\n%9s %12s %9s %12s\n", "flows", "flow.Table", "Go map", "sorted list")
	for _, n := range []int{16_000, 256_000, 2_000_000} {
		keys := make([]flow.Key, n)
		for i := range keys {
			keys[i] = flow.Key{KeyNH: uint32(100 + i%microClients), Tuple: conversation("local", i, 0, 0)}
		}
		finds := finders(keys)
		var rounds [3][]float64
		for range microRounds {
			for i, find := range finds {
				rounds[i] = append(rounds[i], microFind(keys, find))
			}
		}
		fmt.Fprintf(&s, "%9d %12.1f %9.1f %12.1f\n", n, medianOf(rounds[0]), medianOf(rounds[1]), medianOf(rounds[2]))
	}
	return s.String()
}

// finders returns three ways to find keys; each is asked for many at once.
func finders(keys []flow.Key) [3]func([]flow.Key) int {
	size := flow.Size{Four: len(keys) * 100 / 99, Six: 1}
	memory, _, err := store.Private().Memory("", flow.MemorySize(size))
	if err != nil {
		panic(err)
	}
	table, err := flow.New(memory, size, 0, 42)
	if err != nil {
		panic(err)
	}
	plain := make(map[flow.Key]uint32, len(keys))
	for i := range keys {
		slot, ok := table.Insert(&keys[i])
		if !ok {
			panic("full")
		}
		table.Entry(slot).Action = flow.ActionForward
		plain[keys[i]] = slot
	}
	sorted := slices.Clone(keys)
	slices.SortFunc(sorted, compareKeys)
	rand.New(rand.NewPCG(5, 6)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return [3]func([]flow.Key) int{
		func(ask []flow.Key) (found int) {
			for i := range ask {
				if _, ok := table.Lookup(&ask[i]); ok {
					found++
				}
			}
			return found
		},
		func(ask []flow.Key) (found int) {
			for i := range ask {
				if _, ok := plain[ask[i]]; ok {
					found++
				}
			}
			return found
		},
		func(ask []flow.Key) (found int) {
			for i := range ask {
				if _, ok := sort.Find(len(sorted), func(at int) int { return compareKeys(ask[i], sorted[at]) }); ok {
					found++
				}
			}
			return found
		},
	}
}

func compareKeys(a, b flow.Key) int {
	return cmp.Or(cmp.Compare(a.KeyNH, b.KeyNH), bytes.Compare(a.Src[:], b.Src[:]), bytes.Compare(a.Dst[:], b.Dst[:]),
		cmp.Compare(a.Sport, b.Sport), cmp.Compare(a.Dport, b.Dport), cmp.Compare(a.Proto, b.Proto))
}

func microFind(keys []flow.Key, find func([]flow.Key) int) float64 {
	at, asked, found := rand.IntN(len(keys)-turnSize), 0, 0
	var all turns
	for begin := time.Now(); time.Since(begin) < microSlice/2; {
		start := time.Now()
		found += find(keys[at : at+turnSize])
		all.add(time.Since(start))
		asked += turnSize
		if at += turnSize; at+turnSize > len(keys) {
			at = 0
		}
	}
	if found != asked {
		panic("a key is not found")
	}
	return all.median()
}
