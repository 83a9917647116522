package steer

import (
	"errors"

	"github.com/cilium/ebpf"
)

// OpenOld is Open on a kernel that has less.
func OpenOld(cfg Config, cache, decap6 bool) (*Steer, error) {
	can := abilities{decap6: decap6}
	if !cache {
		can.cache = errors.New("helper FnNone: not supported")
	}
	return open(cfg, can)
}

// OpenWithoutTCX is Open on a kernel before 6.6, which has the flow cache all the same.
func OpenWithoutTCX(cfg Config) (*Steer, error) {
	return open(cfg, abilities{decap6: true, tcx: ebpf.ErrNotSupported})
}

// Program returns a loaded program, to be run without traffic.
func (s *Steer) Program(name string) *ebpf.Program { return s.program(name) }

// Entries counts what the maps hold of vifs.
func (s *Steer) Entries() (n int) {
	for _, m := range []*ebpf.Map{s.objects.Exits, s.objects.Sources, s.objects.Tunnels} {
		var key, value []byte
		for it := m.Iterate(); it.Next(&key, &value); {
			n++
		}
	}
	return n
}
