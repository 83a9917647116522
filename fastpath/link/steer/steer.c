//go:build ignore

// SPDX-License-Identifier: Apache-2.0
//
// The kernel's half of the fast path: it decides nothing but where a packet goes
// to be decided. Flows that are decided, and whose entry is in the cache, it forwards
// itself (cache.h).
//
//	pod, host vif ──► from_vif ────┐ not in the cache      ┌─► to_worker: AF_XDP
//	fabric NIC ─────► from_fabric ─┴─► punt0 ══veth══ punt1 ┘   socket of the queue
//	pod, host vif, fabric NIC ◄── from_punt ◄── punt0 ◄═══ punt1 ◄── worker
//
// Towards a worker the Ethernet destination of a frame carries the vif it came
// from, its source a mark (offload.Slot), and the queue is chosen by the flow's hash. From a worker the Ethernet
// source carries the vif it leaves by, and perhaps a mark. A frame that cannot be steered is dropped
// and counted: nothing of a pod ever reaches the host's own stack.
//
// Steering reads headers with bpf_skb_load_bytes: those of a large packet need not be
// in the linear part of the skb.

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NEXT TC_ACT_UNSPEC // the frame is not ours: the kernel goes on with it
#define DROP TC_ACT_SHOT

#define MAX_VIFS 8192
#define MAX_SEATS 16384 // a power of two
#define MAX_SOCKETS 64
#define MAX_TUNNELS 64
#define MAX_EXTENSIONS 8 // as package packet

#define TUNNEL_PORT 6635 // MPLS over UDP, RFC 7510
#define FRAGMENTED 0x3fff // frag_off of an IPv4 packet: more fragments, or an offset

// Set by Open.
volatile const __u32 punt;    // ifindex of punt0
volatile const __u32 workers; // queues of the punt link
volatile const __u8 caching;  // whether there is a flow cache
volatile const __u8 decap6;   // whether this kernel can take a tunnel off IPv6 (Linux 6.3)

// Why a frame was dropped. The Go side has a sentence for each, in this order.
enum cause {
	UNKNOWN_DEVICE,
	VLAN,
	NO_ROOM,
	PUNT_ADDRESS,
	UNKNOWN_VIF,
	PUNT_FOREIGN,
	NO_SOCKET,
	OVER_SHARE,
	CAUSES,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CAUSES);
	__type(key, enum cause);
	__type(value, __u64);
} drops SEC(".maps");

// Devices of pods and of the host, by ifindex.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIFS);
	__type(key, __u32);
	__type(value, __u32); // vif id
} sources SEC(".maps");

// The same where no two devices share the last bits of their ifindex: found without hashing.
struct seat {
	__u32 ifindex, vif;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SEATS);
	__type(key, __u32);
	__type(value, struct seat);
} seats SEC(".maps");

// Our addresses on the fabric.
struct tunnel {
	__u32 ifindex;
	__be32 addr;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TUNNELS);
	__type(key, struct tunnel);
	__type(value, __u32); // vif id
} tunnels SEC(".maps");

// Where frames leave, by vif id.
struct exit {
	__u32 ifindex;
	__u8 pod; // 1: hand it to the other end of the veth, inside the pod
	__u8 source[ETH_ALEN];
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIFS);
	__type(key, __u32);
	__type(value, struct exit);
} exits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

static __always_inline void count(enum cause cause)
{
	__u64 *n = bpf_map_lookup_elem(&drops, &cause);
	if (n)
		*n += 1; // per CPU, and programs do not migrate
}

static __always_inline int drop(enum cause cause)
{
	count(cause);
	return DROP;
}

// A flow as the hash sees it: IPv6 addresses folded to 32 bits, host byte order.
struct flow {
	__u32 src, dst;
	__u16 sport, dport;
	__u8 proto;
	__u8 pad[3];
};

// The same for both directions of a flow, and the same as packet.Tuple.Hash.
static __always_inline __u32 hash(const struct flow *f)
{
	__u32 x = f->src ^ f->dst, y = f->src + f->dst;
	__u32 z = (__u32)(__u16)(f->sport ^ f->dport) << 16 | (__u16)(f->sport + f->dport);
	__u32 h = x * 0x9E3779B1;
	h ^= y * 0x85EBCA6B;
	h = (h << 13 | h >> 19) * 5 + 0xE6546B64;
	h ^= z * 0xCC9E2D51;
	h ^= f->proto;
	h ^= h >> 16;
	h *= 0x85EBCA6B;
	h ^= h >> 13;
	h *= 0xC2B2AE35;
	return h ^ h >> 16;
}

static __always_inline __u32 fold(const struct in6_addr *a)
{
	return bpf_ntohl(a->in6_u.u6_addr32[0] ^ a->in6_u.u6_addr32[1] ^
			 a->in6_u.u6_addr32[2] ^ a->in6_u.u6_addr32[3]);
}

// What parse found besides the flow.
enum parsed {
	CANNOT,   // not IP, cut off or malformed: the flow is not to be used
	PLAIN,    // ports are those of the flow, or 0
	FRAGMENT, // head or tail
	ERROR4,   // an ICMP error; at points to the packet it quotes
	ERROR6,
};

static __always_inline bool has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

// ports reads the first eight bytes of an L4 header: ports, or an echo's identifier.
static __always_inline int ports(struct __sk_buff *skb, __u32 at, bool v6, struct flow *f)
{
	__be16 h[4];
	if (bpf_skb_load_bytes(skb, at, h, sizeof(h)))
		return PLAIN;
	if (has_ports(f->proto)) {
		f->sport = bpf_ntohs(h[0]);
		f->dport = bpf_ntohs(h[1]);
		return PLAIN;
	}
	if (f->proto != (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return PLAIN;
	__u8 type = bpf_ntohs(h[0]) >> 8;
	if (type == (v6 ? 128 : 8)) // echo request
		f->sport = bpf_ntohs(h[2]);
	else if (type == (v6 ? 129 : 0)) // echo reply
		f->dport = bpf_ntohs(h[2]);
	else if (v6 && type >= 1 && type <= 4) // unreachable, too big, time exceeded, parameter problem
		return ERROR6;
	else if (!v6 && (type == 3 || type == 11 || type == 12)) // unreachable, time exceeded, parameter problem
		return ERROR4;
	return PLAIN;
}

static __always_inline int parse4(struct __sk_buff *skb, __u32 *at, struct flow *f)
{
	struct iphdr ip;
	if (bpf_skb_load_bytes(skb, *at, &ip, sizeof(ip)) || ip.ihl < 5)
		return CANNOT;
	f->src = bpf_ntohl(ip.saddr);
	f->dst = bpf_ntohl(ip.daddr);
	f->proto = ip.protocol;
	*at += ip.ihl * 4;
	if (*at > skb->len)
		return CANNOT;
	__u16 frag = bpf_ntohs(ip.frag_off) & FRAGMENTED;
	int found = PLAIN;
	if (!(frag & 0x1fff))
		found = ports(skb, *at, false, f);
	return frag ? FRAGMENT : found;
}

static __always_inline int parse6(struct __sk_buff *skb, __u32 *at, struct flow *f)
{
	struct ipv6hdr ip;
	if (bpf_skb_load_bytes(skb, *at, &ip, sizeof(ip)))
		return CANNOT;
	f->src = fold(&ip.saddr);
	f->dst = fold(&ip.daddr);
	f->proto = ip.nexthdr;
	*at += sizeof(ip);
	bool frag = false, first_fragment = true;
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		__u8 proto = f->proto;
		bool fragment = proto == IPPROTO_FRAGMENT;
		if (!fragment && proto != IPPROTO_HOPOPTS && proto != IPPROTO_ROUTING && proto != IPPROTO_DSTOPTS)
			break;
		__u8 h[4]; // next header; length or 0; then of a fragment offset and M, of a route segments left
		if (i == MAX_EXTENSIONS || bpf_skb_load_bytes(skb, *at, h, sizeof(h)))
			return CANNOT;
		if ((proto == IPPROTO_HOPOPTS && i) || (fragment && !first_fragment) || (proto == IPPROTO_ROUTING && h[3]))
			return CANNOT; // malformed: so says package packet
		f->proto = h[0];
		*at += fragment ? 8 : 8 + h[1] * 8;
		if (*at > skb->len)
			return CANNOT;
		if (fragment) {
			first_fragment = false;
			if (h[2] || h[3] & 0xf8)
				return FRAGMENT; // a tail: what follows is payload
			frag = h[3] & 1;
		}
	}
	int found = ports(skb, *at, true, f);
	return frag ? FRAGMENT : found;
}

// parse reads the IP packet at *at, of version 4 or 6, and leaves *at behind the
// headers it understood.
static __noinline int parse(struct __sk_buff *skb, __u32 *at, struct flow *f)
{
	__u8 version = 0;
	bpf_skb_load_bytes(skb, *at, &version, 1);
	__builtin_memset(f, 0, sizeof(*f));
	if (version >> 4 == 4)
		return parse4(skb, at, f);
	if (version >> 4 == 6)
		return parse6(skb, at, f);
	return CANNOT;
}

// owner tells which worker the IP packet at at is for. Fragments go by addresses and
// protocol: only the first one has ports. ICMP errors go where the flow they speak
// of goes. What is no IP goes to worker 0.
static __always_inline __u32 owner(struct __sk_buff *skb, __u32 at)
{
	struct flow f, quoted;
	int found = parse(skb, &at, &f);
	if (found == CANNOT)
		return 0;
	if (found == FRAGMENT)
		f.sport = f.dport = 0;
	if (found == ERROR4 || found == ERROR6) {
		at += 8;
		__u8 version = 0;
		bpf_skb_load_bytes(skb, at, &version, 1);
		if (version >> 4 == (found == ERROR4 ? 4 : 6) && parse(skb, &at, &quoted) != CANNOT)
			f = quoted;
	}
	return (__u64)hash(&f) * workers >> 32;
}

#include "cache.h"
#include "share.h"

// to_punt sends a frame that came from a vif to the worker that owns its flow. Where
// its source was, m.
static __always_inline int to_punt(struct __sk_buff *skb, __u32 vif, __u32 worker, const struct mark *m)
{
	__u8 macs[2 * ETH_ALEN] = {0x02, 0x56, vif >> 24, vif >> 16, vif >> 8, vif};
	if (m->slot) {
		macs[6] = 0x06;
		macs[7] = 0x56;
		macs[8] = m->slot >> 8;
		macs[9] = m->slot;
		macs[10] = m->turn >> 8;
		macs[11] = m->turn;
	}
	if (bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0))
		return drop(NO_ROOM);
	skb->queue_mapping = 1 + worker; // as if received there: the sender's queue follows
	return bpf_redirect(punt, 0);
}

// through forwards the IP packet behind outer bytes of tunnel that came from from, if the
// cache has it, and else says UP and who is to have it.
static __always_inline int through(struct __sk_buff *skb, __u32 from, __u32 outer, bool v6, struct mark *m, __u32 *worker)
{
	union key k;
	struct seen s;
	struct flow f = {};
	int found = caching ? look(skb, ETH_HLEN + outer, from, v6, &k, &s) : OTHER;
	if (found == OTHER) {
		if (caching)
			other_begins(skb, ETH_HLEN + outer, from, v6);
		*worker = owner(skb, ETH_HLEN + outer);
		return UP;
	}
	if (found == CACHEABLE) {
		int action = cached(skb, outer, v6, &s, entry_of(&k, v6), m);
		if (action != UP)
			return action;
	} else if (found == BEGINS) {
		begins(&k, v6);
	}
	flow_of(&k, v6, &f);
	*worker = (__u64)hash(&f) * workers >> 32;
	return UP;
}

// source_of is the vif of a device, 0 if it has none.
static __always_inline __u32 source_of(__u32 ifindex)
{
	__u32 at = ifindex % MAX_SEATS;
	struct seat *s = bpf_map_lookup_elem(&seats, &at);
	if (s && s->ifindex == ifindex)
		return s->vif;
	__u32 *vif = bpf_map_lookup_elem(&sources, &ifindex);
	return vif ? *vif : 0;
}

SEC("tcx/ingress")
int from_vif(struct __sk_buff *skb)
{
	__u32 id = source_of(skb->ifindex), worker = 0;
	if (!id)
		return drop(UNKNOWN_DEVICE);
	if (skb->vlan_present) // the tag is not in the frame: a worker would not see it
		return drop(VLAN);
	struct mark m = {};
	int action = UP;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		action = through(skb, id << 8, 0, false, &m, &worker);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		action = through(skb, id << 8, 0, true, &m, &worker);
	if (action != UP)
		return action;
	__u32 frames = skb->gso_segs ? skb->gso_segs : 1; // punt0 will cut it into so many
	if (within(id, frames, worker))
		return to_punt(skb, id, worker, &m);
	never_up(&m, frames);
	return drop(OVER_SHARE);
}

// out_of_tunnel is through for a packet in a tunnel whose outer bytes, after Ethernet, begin
// with ip and end with a label. Only tunnels as we write them are for the cache.
static __always_inline int out_of_tunnel(struct __sk_buff *skb, const struct iphdr *ip, __u32 outer, struct mark *m, __u32 *worker)
{
	struct {
		__be32 label;
		__u8 version;
	} __attribute__((packed)) h;
	__be32 peer = ip->saddr;
	if (!caching || ip->ihl != 5 || bpf_ntohs(ip->tot_len) != skb->len - ETH_HLEN || header_sum(ip) != 0xffff)
		goto up;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + outer - sizeof(h.label), &h, sizeof(h)))
		goto up;
	__u32 label = bpf_ntohl(h.label);
	if (!(label & MPLS_BOTTOM) || !(label & 0xff) || !bpf_map_lookup_elem(&peers, &peer))
		goto up;
	if (h.version >> 4 == 6)
		return through(skb, FROM_LABEL | label >> 12 << 8, outer, true, m, worker);
	return through(skb, FROM_LABEL | label >> 12 << 8, outer, false, m, worker);
up:
	*worker = owner(skb, ETH_HLEN + ip->ihl * 4 + outer - sizeof(*ip));
	return UP;
}

// our_vif finds the vif of a tunnel packet's destination: 0 when it is not ours.
static __always_inline __u32 our_vif(struct __sk_buff *skb, const struct iphdr *ip)
{
	struct tunnel us = {.ifindex = skb->ifindex, .addr = ip->daddr};
	__u32 *vif = bpf_map_lookup_elem(&tunnels, &us);
	return vif ? *vif : 0;
}

// from_fabric takes whole tunnel packets addressed to us, and nothing else: the
// NIC is the node's. Of MPLS over GRE it takes what is in the cache: workers do not read it.
SEC("tcx/ingress")
int from_fabric(struct __sk_buff *skb)
{
	struct iphdr ip;
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return NEXT;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return NEXT;
	if (ip.ihl < 5 || ip.frag_off & bpf_htons(FRAGMENTED))
		return NEXT;
	struct mark m = {};
	__u32 at = ETH_HLEN + ip.ihl * 4, vif, worker;
	if (ip.protocol == IPPROTO_GRE && caching) {
		__be16 gre[2]; // flags and version, protocol
		if (bpf_skb_load_bytes(skb, at, gre, sizeof(gre)) || gre[0] || gre[1] != bpf_htons(MPLS_UNICAST) || !our_vif(skb, &ip))
			return NEXT;
		int action = out_of_tunnel(skb, &ip, GRE_OUTER, &m, &worker);
		return action == UP ? NEXT : action;
	}
	struct udphdr udp;
	if (ip.protocol != IPPROTO_UDP || bpf_skb_load_bytes(skb, at, &udp, sizeof(udp)) || udp.dest != bpf_htons(TUNNEL_PORT))
		return NEXT;
	vif = our_vif(skb, &ip);
	if (!vif)
		return NEXT;
	int action = UP;
	if (udp.check || bpf_ntohs(udp.len) != bpf_ntohs(ip.tot_len) - sizeof(ip)) // to be looked at
		worker = owner(skb, at + sizeof(udp) + 4); // 4: one label
	else
		action = out_of_tunnel(skb, &ip, UDP_OUTER, &m, &worker);
	return action == UP ? to_punt(skb, vif, worker, &m) : action;
}

// The first byte of the Ethernet source of a frame from a worker. Then come
//
//	PLAIN_FRAME   56, vif (4 bytes)
//	MARKED_FRAME  vif (2 bytes), slot (12 bits), turn (its last 12)
//	FENCE, AGAIN  56, slot (2 bytes), turn (2 bytes)
enum down {
	PLAIN_FRAME = 0x02,
	MARKED_FRAME = 0x06,
	FENCE = 0x0a,
	AGAIN = 0x0e,
};

// fenced is for a fence: when everything before it has passed, the flow may change hands.
// Handing on a packet may have put it into the queue of this processor once more, on
// its way into another namespace: so the fence goes there again, behind it.
static __always_inline int fenced(struct __sk_buff *skb, __u8 *mac)
{
	__u32 at = mac[2] << 8 | mac[3];
	__u64 turn = mac[4] << 8 | mac[5];
	bool again = mac[0] == AGAIN;
	struct slot *s = bpf_map_lookup_elem(&slots, &at);
	struct fence f;
	if (!s || bpf_skb_load_bytes(skb, ETH_HLEN, &f, sizeof(f)) || !all_passed(s, turn, &f))
		return DROP; // another follows
	if (again) {
		ACCESS_ONCE(s->done) = turn << 32 | bpf_ntohl(f.up);
		return DROP;
	}
	mac[0] = AGAIN;
	if (bpf_skb_store_bytes(skb, ETH_ALEN, mac, 1, 0))
		return DROP;
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

// from_punt delivers what a worker sent.
SEC("tcx/ingress")
int from_punt(struct __sk_buff *skb)
{
	__u8 mac[ETH_ALEN];
	if (bpf_skb_load_bytes(skb, ETH_ALEN, mac, sizeof(mac)))
		return drop(PUNT_ADDRESS);
	__u32 vif = (__u32)mac[2] << 24 | mac[3] << 16 | mac[4] << 8 | mac[5];
	if (mac[0] == MARKED_FRAME) {
		vif = mac[1] << 8 | mac[2];
		passed(mac[3] << 4 | mac[4] >> 4, (mac[4] & 0x0f) << 8 | mac[5]);
	} else if (mac[1] != 0x56 || (mac[0] != PLAIN_FRAME && mac[0] != FENCE && mac[0] != AGAIN)) {
		return drop(PUNT_ADDRESS);
	} else if (mac[0] != PLAIN_FRAME) {
		return fenced(skb, mac);
	}
	struct exit *e = bpf_map_lookup_elem(&exits, &vif);
	if (!e)
		return drop(UNKNOWN_VIF);
	if (bpf_skb_store_bytes(skb, ETH_ALEN, e->source, ETH_ALEN, 0))
		return drop(NO_ROOM);
	if (e->pod)
		return bpf_redirect_peer(e->ifindex, 0); // no queue, no second softirq
	return bpf_redirect(e->ifindex, 0);
}

// to_worker hands the frame to the AF_XDP socket of the queue it was steered to.
SEC("xdp.frags")
int to_worker(struct xdp_md *ctx)
{
	__u8 *mac = (void *)(long)ctx->data;
	if (mac + ETH_HLEN > (__u8 *)(long)ctx->data_end || mac[0] != 0x02 || mac[1] != 0x56) {
		count(PUNT_FOREIGN); // not steered: the host's stack spoke on punt0
		return XDP_DROP;
	}
	int verdict = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
	if (verdict != XDP_REDIRECT)
		count(NO_SOCKET);
	return verdict;
}

char _license[] SEC("license") = "Apache-2.0"; // nothing the kernel reserves for GPL is called
