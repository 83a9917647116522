//go:build ignore

// SPDX-License-Identifier: Apache-2.0
//
// take stands before everything else on the fabric NIC. It hands tunnel packets
// addressed to us to the worker of the queue they arrived on:
//
//	fabric NIC, queue i ─► take ─► AF_XDP socket of queue i: worker i % workers
//	                        └────► the kernel, unchanged
//
// The NIC is the node's: whatever is not a whole tunnel packet to us goes on as if
// nobody had looked. So do tunnel packets while no worker listens, or where one is too
// unusual to be understood here (headers outside of the first buffer): behind us,
// from_fabric of package steer does with them what it does without us. It counts those it
// drops for want of a worker, and it may know their flow, and forward it while there
// are no workers at all.

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_ADDRESSES 64
#define MAX_QUEUES 256

#define TUNNEL_PORT 6635 // MPLS over UDP, RFC 7510
#define FRAGMENTED 0x3fff // frag_off of an IPv4 packet: more fragments, or an offset

// Our tunnel addresses on this device, and whom the frame must name.
struct us {
	__u32 vif;
	__u8 mac[ETH_ALEN]; // of the device: frames for other stations are not ours
	__u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ADDRESSES);
	__type(key, __be32);
	__type(value, struct us);
} addresses SEC(".maps");

// By queue of the device.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

static __always_inline bool same(const __u8 *a, const __u8 *b)
{
	__u8 differ = 0;
	for (int i = 0; i < ETH_ALEN; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

SEC("xdp.frags")
int take(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->protocol != IPPROTO_UDP || ip->version != 4 || ip->ihl < 5 || ip->frag_off & bpf_htons(FRAGMENTED))
		return XDP_PASS;
	struct udphdr *udp = (void *)ip + ip->ihl * 4;
	if ((void *)(udp + 1) > end || udp->dest != bpf_htons(TUNNEL_PORT))
		return XDP_PASS;
	__be32 to = ip->daddr;
	struct us *us = bpf_map_lookup_elem(&addresses, &to);
	if (!us || !same(eth->h_dest, us->mac))
		return XDP_PASS;
	__u32 queue = ctx->rx_queue_index;
	if (!bpf_map_lookup_elem(&sockets, &queue)) // before the frame is touched
		return XDP_PASS;
	__u8 mac[ETH_ALEN] = {0x02, 0x56, us->vif >> 24, us->vif >> 16, us->vif >> 8, us->vif};
	__builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN); // never a mark of the flow cache: we did not ask it
	return bpf_redirect_map(&sockets, queue, XDP_PASS);
}

char _license[] SEC("license") = "Apache-2.0"; // nothing the kernel reserves for GPL is called
