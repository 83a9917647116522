// SPDX-License-Identifier: Apache-2.0
//
// How a flow changes from workers to the cache without overtaking itself; package offload
// says what the frames between are. What went up and came down again is counted by
// the programs that see it pass, not by who sends it: what a worker has sent may wait
// for a soft interrupt on its processor, while the flow's next packet is on another.
//
//	from_vif, from_fabric: ours ─► up, marked ─► worker ─► marked, then a fence ─► from_punt: passed, fence

// offload.Slot.
struct slot {
	__u64 up;     // frames sent up in this turn
	__u64 passed; // turn << 32 | of them, frames that came down
	__u64 done;   // turn << 32 | up, when all of that has left this node's queues
	__u32 turn, active;
	__u32 cpu; // 1 + the processor on which all of passed came down; SEVERAL
	__u32 pad[7];
};

#define SEVERAL 0xffffffff
#define TURN_BITS 0xfff // of a turn, in a marked frame from a worker

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

#define ACCESS_ONCE(x) (*(volatile typeof(x) *)&(x))

// A mark names the slot and turn that a frame on its way up is counted in.
struct mark {
	__u16 slot, turn;
};

// ours says that the kernel may forward the packet: nothing of its flow is under way
// through a worker. If not, the packet is counted and m marks it. A packet is as
// many frames as punt0 will cut it into.
static __always_inline bool ours(struct entry *e, __u32 frames, struct mark *m)
{
	__u32 at = e->handover;
	if (!at)
		return true;
	struct slot *s = bpf_map_lookup_elem(&slots, &at);
	if (!s || ACCESS_ONCE(s->turn) != e->turn)
		return false;
	__u64 up = ACCESS_ONCE(s->up);
	if (up && ((__u64)e->turn << 32 | up) == ACCESS_ONCE(s->done)) {
		e->handover = 0;
		s->active = e->turn;
		return true;
	}
	__sync_fetch_and_add(&s->up, frames);
	m->slot = at;
	m->turn = e->turn;
	return false;
}

// never_up takes back that a packet was counted: it is dropped here.
static __always_inline void never_up(const struct mark *m, __u32 frames)
{
	__u32 at = m->slot;
	struct slot *s = at ? bpf_map_lookup_elem(&slots, &at) : 0;
	if (s && ACCESS_ONCE(s->turn) == m->turn)
		__sync_fetch_and_add(&s->up, -(__u64)frames);
}

// passed counts a marked frame that came down. A frame of a turn before changes nothing.
static __always_inline void passed(__u32 at, __u32 turn)
{
	struct slot *s = bpf_map_lookup_elem(&slots, &at);
	if (!s)
		return;
	__u64 now = ACCESS_ONCE(s->turn), n = s->passed;
	if ((now & TURN_BITS) != turn)
		return;
	__u32 cpu = 1 + bpf_get_smp_processor_id();
	if (n >> 32 != now) {
		n = now << 32;
		s->cpu = cpu;
	} else if (s->cpu != cpu) {
		s->cpu = SEVERAL;
	}
	s->passed = n + 1;
}

// Behind the Ethernet header of a fence; network byte order.
struct fence {
	__be32 down; // marked frames the worker sent down before it, in this turn
	__be32 up;   // how many came up, those included that left otherwise or were dropped
};

// all_passed says that the frames before the fence have come down, and were handled on this
// processor, which does one after the other.
static __always_inline bool all_passed(const struct slot *s, __u64 turn, const struct fence *f)
{
	__u32 down = bpf_ntohl(f->down);
	if (ACCESS_ONCE(s->turn) != turn)
		return false;
	return !down || (s->passed == (turn << 32 | down) && s->cpu == 1 + bpf_get_smp_processor_id());
}
