package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/bench/load/result"
)

const (
	firstPort = 1024
	maxFlows  = 1<<16 - firstPort
	// callSize is how many frames one call makes. Each call sets up a page pool,
	// which short calls spend most of their time on.
	callSize = 1 << 19
	// floodBatch frames are made before the device's softirq gets its turn. A
	// veth takes 64 a poll and holds 256.
	floodBatch = 64
	liveFrames = 2 // BPF_F_TEST_XDP_LIVE_FRAMES
)

func floodFlags(set *flag.FlagSet, o *options) {
	target(set, o)
	set.IntVar(&o.size, "size", 64, "bytes of a frame without checksum (at least 64 with IPv6, 44 with IPv4); udp-flood only")
	set.IntVar(&o.flows, "flows", 1, "source ports, used in turn")
}

func udpFlood(ctx context.Context, o *options) (*result.Result, error) {
	return flood(ctx, o, udpTemplate)
}
func synFlood(ctx context.Context, o *options) (*result.Result, error) {
	return flood(ctx, o, synTemplate)
}

// flood sends frames out of the pod's own device as fast as they can be made:
// BPF_PROG_TEST_RUN runs an XDP program on live frames, the program redirects
// each into the pod's end of the veth, and the other end receives it from its
// own queue, as if a fast pod had sent it. There, native XDP sees a frame, and tc
// and the bridge a new skb. The other end must have NAPI for that: an XDP program
// or `ethtool -K DEV gro on`; without, every frame is lost.
func flood(ctx context.Context, o *options, make func(netip.AddrPort, int) (template, error)) (*result.Result, error) {
	if o.flows < 1 || o.flows > maxFlows {
		return nil, fmt.Errorf("flows %d: want 1 to %d", o.flows, maxFlows)
	}
	t, err := make(o.to, o.size)
	if err != nil {
		return nil, err
	}
	g, err := newGenerator(t, o.flows)
	if err != nil {
		return nil, err
	}
	defer g.close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	clock := result.Start()
	for until := time.Now().Add(o.duration); time.Now().Before(until) && ctx.Err() == nil; {
		if err := g.burst(); err != nil {
			return nil, err
		}
	}
	passed, cpu := clock.Stop()
	n, err := g.made()
	if err != nil {
		return nil, err
	}
	return &result.Result{
		To: o.to.String(), Seconds: passed.Seconds(), Parallel: o.flows, CPU: cpu,
		Count: n, Rate: float64(n) / passed.Seconds(), Bytes: n * uint64(len(t.frame)),
		Note: fmt.Sprintf("%d-byte frames into %s; what arrives is counted by the sink", len(t.frame), t.device.Name),
	}, nil
}

// generator owns the program and its counter.
type generator struct {
	program *ebpf.Program
	counter *ebpf.Map
	frame   []byte
}

func newGenerator(t template, flows int) (*generator, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, err
	}
	counter, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("counter: %w", err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "flood", Type: ebpf.XDP, License: "GPL", Instructions: t.program(counter, flows),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("generator program: %w", err), counter.Close())
	}
	return &generator{program: p, counter: counter, frame: t.frame}, nil
}

func (g *generator) close() {
	_ = g.program.Close()
	_ = g.counter.Close()
}

func (g *generator) burst() error {
	_, err := g.program.Run(&ebpf.RunOptions{Data: g.frame, Repeat: callSize, Flags: liveFrames, BatchSize: floodBatch})
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("run the generator (Linux 5.18 or newer?): %w", err)
	}
	return nil
}

// made asks the program: a call that a signal ended made fewer than it should.
func (g *generator) made() (n uint64, err error) {
	err = g.counter.Lookup(uint32(0), &n)
	return n, err
}

// program writes the headers of each frame afresh, because pages come back as
// the last receiver left them: rewritten, with a smaller TTL.
func (t template) program(counter *ebpf.Map, flows int) asm.Instructions {
	head := (t.spread + spread + 7) &^ 7 // whole words
	if head > len(t.frame) {
		head -= 8 // the rest by halves
	}
	ins := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(len(t.frame))),
		asm.JGT.Reg(asm.R4, asm.R3, "out"),
	}
	for at := 0; at < head; at += 8 {
		ins = append(ins,
			asm.LoadImm(asm.R5, int64(binary.NativeEndian.Uint64(t.frame[at:])), asm.DWord),
			asm.StoreMem(asm.R2, int16(at), asm.R5, asm.DWord))
	}
	for at := head; at < t.spread+spread; at += 2 {
		ins = append(ins, asm.StoreImm(asm.R2, int16(at), int64(binary.NativeEndian.Uint16(t.frame[at:])), asm.Half))
	}
	return append(ins,
		// n-th frame: port = firstPort + n mod flows
		asm.LoadMapValue(asm.R4, counter.FD(), 0),
		asm.LoadMem(asm.R5, asm.R4, 0, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R5),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R4, 0, asm.R1, asm.DWord),
		asm.Mod.Imm(asm.R5, int32(flows)),
		asm.Add.Imm(asm.R5, firstPort),
		asm.HostTo(asm.BE, asm.R5, asm.Half),
		asm.StoreMem(asm.R2, int16(t.port), asm.R5, asm.Half),
		asm.Xor.Imm(asm.R5, 0xffff),
		asm.StoreMem(asm.R2, int16(t.spread), asm.R5, asm.Half),

		asm.Mov.Imm(asm.R1, int32(t.device.Index)).WithSymbol("out"),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	)
}
