package steer

import "github.com/cilium/ebpf"

// Program returns a loaded program, to be run without traffic.
func (s *Steer) Program(name string) *ebpf.Program { return s.program(name) }
