package steer

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Drop counts the frames the kernel dropped between vifs and workers, for one reason.
type Drop struct {
	Name     string
	Sentence string
	Count    uint64
	PerCPU   []uint64 // nil when the kernel does not tell
}

// causes are those of enum cause in steer.c.
var causes = [steerCauseCAUSES]Drop{
	steerCauseUNKNOWN_DEVICE: {Name: "steer-unknown-device", Sentence: "A frame of a pod whose vif the fast path does not know (yet, or any more)."},
	steerCauseVLAN:           {Name: "steer-vlan", Sentence: "A pod or the host sent a frame with a VLAN tag."},
	steerCauseNO_ROOM:        {Name: "steer-no-memory", Sentence: "The kernel had no memory to rewrite a frame's Ethernet header."},
	steerCausePUNT_ADDRESS:   {Name: "steer-punt-source", Sentence: "A frame from the workers' side of the punt link names no vif: something else sends there."},
	steerCauseUNKNOWN_VIF:    {Name: "steer-unknown-vif", Sentence: "A worker sent a frame to a vif that is not attached (yet, or any more)."},
	steerCausePUNT_FOREIGN:   {Name: "steer-punt-foreign", Sentence: "A frame on the punt link was not steered there: the host's own stack sends there."},
	steerCauseNO_SOCKET:      {Name: "steer-no-worker", Sentence: "No worker listens on the queue: the fast path is starting or gone."},
	steerCauseOVER_SHARE:     {Name: "steer-over-share", Sentence: "A pod or the host sent more than a worker takes; of what waits for the worker, others have their share."},
}

// deviceDrops are the drop counters of the two ends of the punt link, as in
// /proc/net/dev: receive column 4, transmit column 12.
var deviceDrops = []struct {
	end    int
	column int
	drop   Drop
}{
	{0, 11, Drop{Name: "punt-ring-full", Sentence: "The punt link's ring was full: frames came faster than the kernel took them off it."}},
	{0, 3, Drop{Name: "punt-backlog", Sentence: "The kernel dropped a worker's frame before it was steered: its backlog was full."}},
	{1, 3, Drop{Name: "punt-receive", Sentence: "The kernel could not turn a frame into one for AF_XDP: no memory, or a worker's ring was full."}},
	{1, 11, Drop{Name: "punt-transmit", Sentence: "The punt link did not take a worker's frame."}},
}

// Stats returns one Drop for every reason there is, in a fixed order.
func (s *Steer) Stats() ([]Drop, error) {
	var all []Drop
	for i, d := range causes {
		if err := s.objects.Drops.Lookup(uint32(i), &d.PerCPU); err != nil {
			return nil, fmt.Errorf("read steering drops: %w", err)
		}
		for _, n := range d.PerCPU {
			d.Count += n
		}
		all = append(all, d)
	}
	devices, err := s.deviceStats()
	if err != nil {
		return nil, fmt.Errorf("read punt link drops: %w", err)
	}
	return append(all, devices...), nil
}

// deviceStats reads the counters of the punt link, of the calling thread's network
// namespace.
func (s *Steer) deviceStats() ([]Drop, error) {
	queue := Drop{Name: "punt-queue-full", Sentence: "The punt link's queue was full: frames came faster than a worker took them."}
	var err error
	if queue.Count, err = queueDrops(s.outer); err != nil {
		return nil, err
	}
	all := []Drop{queue}
	text, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		return nil, err
	}
	for _, c := range deviceDrops {
		d := c.drop
		d.Count = deviceColumn(string(text), s.devices[c.end], c.column)
		all = append(all, d)
	}
	return all, nil
}

// deviceColumn finds a counter of a device; 0 when there is no such device.
func deviceColumn(text, device string, column int) uint64 {
	for line := range strings.Lines(text) {
		name, counters, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != device {
			continue
		}
		if f := strings.Fields(counters); column < len(f) {
			n, _ := strconv.ParseUint(f[column], 10, 64) // the kernel writes numbers
			return n
		}
	}
	return 0
}
