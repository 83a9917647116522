// SPDX-License-Identifier: Apache-2.0
//
// All pods share a worker's ring, and one that floods it would leave no place in it for others.
// So each gets a share. A worker says when it begins a round: when all that waited for it
// at the beginning of the last one has been taken. A pod may send so much in a round;
// at most twice that much of it waits. Nothing is timed: a slow worker makes long rounds.
//
//	from_vif: within the share ─► ring ─► worker: round ─► from_vif

#define SHARE 512 // packets; the ring has 2048 slots (package xsk)

// By worker. A round has a cache line of its own: a worker writes it with each batch.
struct round {
	__u32 number; // 0: this worker does not say
	__u32 pad[15];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, __u32);
	__type(value, struct round);
} rounds SEC(".maps");

// What a vif has sent to a worker in a round. Vifs whose ids differ by a multiple of what
// there is room for have one share together.
struct sent {
	__u32 round, packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SEATS);
	__type(key, __u32);
	__type(value, struct sent);
} shares SEC(".maps");

// within says that a packet of the vif, so many frames, is within its share of the worker's
// ring. What two processors count at the same moment may count once.
static __always_inline bool within(__u32 vif, __u32 frames, __u32 worker)
{
	__u32 at = vif % (MAX_SEATS / workers) * workers + worker;
	struct round *r = bpf_map_lookup_elem(&rounds, &worker);
	struct sent *s = bpf_map_lookup_elem(&shares, &at);
	__u32 now = r ? ACCESS_ONCE(r->number) : 0;
	if (!now || !s)
		return true;
	if (s->round != now) {
		s->packets = 0;
		s->round = now;
	}
	if (s->packets && s->packets + frames > SHARE)
		return false;
	s->packets += frames;
	return true;
}
