package steer

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// abilities are what the kernel may or may not have of what the flow cache asks for.
type abilities struct {
	cache  error // why there can be no cache
	tcx    error // why programs cannot be attached by tcx
	decap6 bool  // a tunnel can be taken off an IPv6 packet: Linux 6.3
}

// probe asks the kernel, by way of a device of ours where it must.
func probe(ifindex int) (can abilities) {
	can.tcx = attachesTCX(ifindex)
	// The helpers that only the cache calls.
	for _, h := range []asm.BuiltinFunc{asm.FnSkbAdjustRoom, asm.FnL4CsumReplace, asm.FnSkbPullData} {
		if err := features.HaveProgramHelper(ebpf.SchedCLS, h); err != nil {
			can.cache = fmt.Errorf("helper %v: %w", h, err)
		}
	}
	can.decap6 = decaps6()
	return can
}

// attachesTCX attaches a program that leaves every frame to the next.
func attachesTCX(ifindex int) error {
	const next = -1 // TCX_NEXT
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, next), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer p.Close()
	l, err := link.AttachTCX(link.TCXOptions{Program: p, Interface: ifindex, Attach: ebpf.AttachTCXIngress, Anchor: link.Tail()})
	if err != nil {
		return err
	}
	return l.Close()
}

// decaps6 takes 20 bytes off a packet that is to be IPv6 then, and sees whether the kernel does.
func decaps6() bool {
	const macMode, flags = 1, 1<<0 | 1<<8 // BPF_ADJ_ROOM_MAC; _FIXED_GSO, _DECAP_L3_IPV6
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, -20), asm.Mov.Imm(asm.R3, macMode), asm.Mov.Imm(asm.R4, flags),
			asm.FnSkbAdjustRoom.Call(), asm.Return(),
		},
	})
	if err != nil {
		return false
	}
	defer p.Close()
	frame := make([]byte, 14+20+40)
	frame[12], frame[13] = 0x08, 0x00
	frame[14], frame[34] = 0x45, 0x60
	result, err := p.Run(&ebpf.RunOptions{Data: frame})
	return err == nil && result == 0
}

// limits says it for people.
func (a abilities) limits() (all []string) {
	if a.cache != nil {
		return []string{"This kernel cannot forward flows itself: " + a.cache.Error() + ". All packets go through the user plane."}
	}
	if !a.decap6 {
		all = append(all, "This kernel cannot take a tunnel off IPv6 packets (Linux 6.3 or later can): those from other nodes go through the user plane.")
	}
	return all
}
