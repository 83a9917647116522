package steer

import "github.com/cilium/ebpf"

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
