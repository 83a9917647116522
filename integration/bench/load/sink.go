package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/bench/load/result"
)

func sinkFlags(set *flag.FlagSet, o *options) {
	set.StringVar(&o.dev, "dev", "eth0", "device of the pod")
	set.IntVar(&o.port, "port", 5001, "destination port, UDP and TCP, that is counted and dropped")
	set.DurationVar(&o.duration, "time", 5*time.Second, "how long to measure")
	set.DurationVar(&o.warm, "warm", time.Second, "how long to wait after the first packet")
	set.DurationVar(&o.gap, "wait", 20*time.Second, "how long to wait for the first packet")
}

// received is what the sink's program counts, on each processor.
type received struct{ Packets, Bytes uint64 }

// sink counts what arrives at the pod's device and drops it there, in tcx: this
// sees packets that come through the veth's queue as well as those that
// redirect_peer puts there, which XDP on the device does not; and it leaves the
// other end's offloads alone.
func sink(ctx context.Context, o *options) (*result.Result, error) {
	dev, err := net.InterfaceByName(o.dev)
	if err != nil {
		return nil, err
	}
	counts, detach, err := attachSink(dev, o.port)
	if err != nil {
		return nil, err
	}
	defer detach()
	fmt.Println(`{"workload":"sink","note":"ready"}`)
	read := func() (sum received, err error) {
		var each []received
		err = counts.Lookup(uint32(0), &each)
		for _, c := range each {
			sum.Packets += c.Packets
			sum.Bytes += c.Bytes
		}
		return sum, err
	}
	if err := awaitFirst(ctx, o.gap, read); err != nil {
		return nil, err
	}
	rest(ctx, o.warm)
	before, err1 := read()
	clock := result.Start()
	rest(ctx, o.duration)
	after, err2 := read()
	passed, cpu := clock.Stop()
	n, bytes := after.Packets-before.Packets, after.Bytes-before.Bytes
	return &result.Result{
		To: dev.Name, Seconds: passed.Seconds(), CPU: cpu,
		Count: n, Rate: float64(n) / passed.Seconds(), Bytes: bytes, Gbps: result.Gbps(bytes, passed),
	}, errors.Join(err1, err2)
}

func awaitFirst(ctx context.Context, wait time.Duration, read func() (received, error)) error {
	for until := time.Now().Add(wait); ; rest(ctx, 10*time.Millisecond) {
		c, err := read()
		switch {
		case err != nil || c.Packets > 0:
			return err
		case ctx.Err() != nil || time.Now().After(until):
			return fmt.Errorf("nothing arrived in %s", wait)
		}
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// attachSink puts the program first on the device's ingress.
func attachSink(dev *net.Interface, port int) (*ebpf.Map, func(), error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, nil, err
	}
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	if err != nil {
		return nil, nil, fmt.Errorf("counters: %w", err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "sink", Type: ebpf.SchedCLS, License: "GPL", Instructions: sinkProgram(counts, port),
	})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("sink program: %w", err), counts.Close())
	}
	defer p.Close() // the link holds it
	l, err := link.AttachTCX(link.TCXOptions{Interface: dev.Index, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("attach to %s: %w", dev.Name, err), counts.Close())
	}
	return counts, func() { _, _ = l.Close(), counts.Close() }, nil
}

// sinkProgram drops and counts UDP and TCP to a port, without IP options; the
// rest goes on.
func sinkProgram(counts *ebpf.Map, port int) asm.Instructions {
	const next = -1 // TCX_NEXT
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, 76, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R6, 80, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, ethernet+ipv4+4),
		asm.JGT.Reg(asm.R4, asm.R3, "next"),
		asm.LoadMem(asm.R5, asm.R2, 12, asm.Half),
		asm.HostTo(asm.BE, asm.R5, asm.Half),
		asm.JEq.Imm(asm.R5, unix.ETH_P_IPV6, "six"),
		asm.JNE.Imm(asm.R5, unix.ETH_P_IP, "next"),
		asm.LoadMem(asm.R5, asm.R2, ethernet, asm.Byte),
		asm.JNE.Imm(asm.R5, 0x45, "next"),
		asm.LoadMem(asm.R7, asm.R2, ethernet+9, asm.Byte),
		asm.LoadMem(asm.R8, asm.R2, ethernet+ipv4+2, asm.Half),
		asm.Ja.Label("transport"),

		asm.Mov.Reg(asm.R4, asm.R2).WithSymbol("six"),
		asm.Add.Imm(asm.R4, ethernet+ipv6+4),
		asm.JGT.Reg(asm.R4, asm.R3, "next"),
		asm.LoadMem(asm.R7, asm.R2, ethernet+6, asm.Byte),
		asm.LoadMem(asm.R8, asm.R2, ethernet+ipv6+2, asm.Half),

		asm.JEq.Imm(asm.R7, unix.IPPROTO_UDP, "port").WithSymbol("transport"),
		asm.JNE.Imm(asm.R7, unix.IPPROTO_TCP, "next"),
		asm.HostTo(asm.BE, asm.R8, asm.Half).WithSymbol("port"),
		asm.JNE.Imm(asm.R8, int32(port), "next"),

		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "next"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word), // len
		asm.LoadMem(asm.R1, asm.R0, 8, asm.DWord),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.StoreMem(asm.R0, 8, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 2), // TC_ACT_SHOT
		asm.Return(),

		asm.Mov.Imm(asm.R0, next).WithSymbol("next"),
		asm.Return(),
	}
}
