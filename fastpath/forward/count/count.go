// Package count holds the counters of the user plane: plain data, owned by whoever
// has it. It does not count.
package count

// Worker is what one worker has counted since its start. Over all workers, when
// nothing is under way between them, RxPackets + Answers + Fragments = TxPackets + drops.
type Worker struct {
	RxPackets, RxBytes uint64
	TxPackets, TxBytes uint64
	Answers            uint64 // packets of our own in the place of refused ones
	Fragments          uint64 // packets that cutting made, the first of each not counted
	Handoffs           uint64 // frames handed to their owner
	Splits             uint64 // NAT pairs whose reverse entry another worker owns
	Lost               uint64 // messages on entries that found a ring full; aging makes up for them
	Loops, Sleeps      uint64
	Flows, FlowSize    int
	FreeFrames         int
	Alive              int64 // monotonic ns of the last turn
}

// Vif is what one worker counts of one vif.
type Vif struct {
	RxPackets, RxBytes uint64
	TxPackets, TxBytes uint64
	Drops              uint64
	Flows              int // forward entries
}
