// SPDX-License-Identifier: Apache-2.0
//
// The kernel's flow cache. It executes what workers decided for established flows,
// with large segments and unfinished checksums left as they are:
//
//	pod, host vif ─► look ─► entry ─► translate, TTL ─┬─► other pod (redirect_peer)
//	fabric NIC ─► outer, label ─► look ─► entry ──────┤─► host vif
//	                                                  └─► MPLS over UDP or GRE ─► fabric NIC
//
// What it does not know or cannot do goes up to a worker unchanged: SYN, FIN, RST,
// fragments, ICMP, options, a TTL that ends, a packet larger than the way, an entry
// whose generation has passed, a verdict of a later version. It drops nothing. A SYN
// ends the entry of its key.
//
// Each family has a map of its own, with the shortest key that tells its flows apart: to
// hash and compare keys is most of what a packet costs. Headers are read and, where
// one write does, written in place; the kernel makes them writable before (clones) for
// every program that does so. A header behind a new tunnel goes with it in one call.

#include <linux/tcp.h>
#include <stddef.h>

#define MAX_CACHE 65536 // entries of each family; Open may say another number
// As package offload.
#define MAX_SCOPES (1 << 17)
#define MAX_NEXT_HOPS (1 << 14)
#define MAX_PEERS (1 << 14)
#define MAX_SLOTS (1 << 12)

// Of later headers than are needed otherwise.
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)

#define UP (-2) // to a worker; no action of tc

#define MPLS_UNICAST 0x8847
#define MPLS_BOTTOM 0x100 // S bit of a label stack entry in host byte order
#define OUR_TTL 64

// One direction of a flow, network byte order.
struct key4 {
	__u32 from; // FROM_LABEL | vif id or label << 8 | protocol
	__be32 src, dst;
	__be16 sport, dport;
};

struct key6 {
	__u32 from;
	__be32 src[4], dst[4];
	__be16 sport, dport;
};

#define FROM_LABEL (1U << 31)

enum verdict {
	VERDICT_NONE,
	VERDICT_FORWARD,
	VERDICT_OVER, // a packet that begins a connection has passed: the entry is of the one before
} __attribute__((packed));

// Which parts of the tuple an entry translates.
enum translation {
	UNTRANSLATED,
	ADDRESSES = 1,
	PORTS = 2,
} __attribute__((packed));

// What is done with a flow: 64 bytes. When anything was seen last is not among it: user
// space sees what the counters have become.
struct entry {
	__be32 src, dst; // of IPv4, after translation, as all that follows
	__be16 sport, dport;
	__u32 addresses_sum; // what translating adds to a sum over the addresses
	enum verdict verdict;
	enum translation translation;
	__be16 entropy;       // outer UDP source port
	__u16 handover, turn; // slot while packets may be under way
	__be32 label;         // whole label stack entry
	__u32 nh;             // id of the next hop, and
	__u32 nh_at;          // where it is in next_hops
	__u32 scope, gen;
	__u32 index; // of the worker's entry
	__u64 packets, bytes;
};

struct entry6 {
	struct entry e;
	__be32 src[4], dst[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH); // not LRU: nothing goes without being told to
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_CACHE);
	__type(key, struct key4);
	__type(value, struct entry);
} cache4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_CACHE);
	__type(key, struct key6);
	__type(value, struct entry6);
} cache6 SEC(".maps");

// Generations by next hop: one store makes all flows decided under it go up. 64 bits,
// the stride of the kernel's arrays.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SCOPES);
	__type(key, __u32);
	__type(value, __u64);
} generations SEC(".maps");

enum hop_kind {
	HOP_NONE,
	HOP_POD,
	HOP_HOST,
	HOP_TUNNEL,
} __attribute__((packed));

struct hop {
	__u32 id;
	__u32 ifindex;
	__be32 src, dst; // outer
	__u32 room;      // bytes, largest inner IP packet
	__u32 outer;     // bytes a tunnel puts between Ethernet and IP
	enum hop_kind kind;
	__u8 gre;
	__u8 pad[2];
	__u32 eth[3]; // both Ethernet addresses
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_NEXT_HOPS);
	__type(key, __u32);
	__type(value, struct hop);
} next_hops SEC(".maps");

// Who may send tunnels.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PEERS);
	__type(key, __be32);
	__type(value, __u8);
} peers SEC(".maps");

#include "handover.h"

// What look finds.
enum found {
	OTHER,     // neither of the following
	BYPASS,    // whole TCP or UDP without options: key is filled in
	BEGINS,    // the same, of a packet that begins its direction of a connection
	CACHEABLE, // and nothing in it asks for a worker
};

struct seen {
	__u32 len;     // of the IP packet
	__u32 headers; // of it, IP's and L4's
	__u32 ports;   // both, as they lie there
	bool udp, unsummed;
};

union key {
	struct key4 four;
	struct key6 six;
} __attribute__((aligned(8)));

// Keys are written in pieces no smaller than the kernel reads them in, which then
// need not wait for the writes.
typedef __u32 __attribute__((may_alias)) half;
typedef __u64 __attribute__((may_alias)) word;

// Offsets and bits of a TCP header.
#define TCP_FLAGS 13 // byte
#define FIN_SYN_RST 0x07
#define SYN 0x02

// look_l4 reads the L4 header at h, which ends before end.
static __always_inline int look_l4(void *h, void *end, __u8 proto, struct seen *s)
{
	struct udphdr *udp = h;
	struct tcphdr *tcp = h;
	if ((void *)(udp + 1) > end)
		return OTHER;
	s->ports = *(half *)h;
	s->udp = proto == IPPROTO_UDP;
	if (s->udp) {
		s->headers += sizeof(*udp);
		s->unsummed = !udp->check;
		return CACHEABLE;
	}
	if ((void *)(tcp + 1) > end)
		return BYPASS;
	s->headers += tcp->doff * 4;
	__u8 flags = ((__u8 *)tcp)[TCP_FLAGS];
	if (!(flags & FIN_SYN_RST))
		return CACHEABLE;
	return flags & SYN ? BEGINS : BYPASS;
}

static __always_inline int look4(void *at, void *end, __u32 from, struct key4 *k, struct seen *s)
{
	struct iphdr *ip = at;
	if ((void *)(ip + 1) > end || *(__u8 *)ip != 0x45) // version, words of header
		return OTHER;
	if ((ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP) || ip->frag_off & bpf_htons(FRAGMENTED))
		return OTHER;
	s->headers = sizeof(*ip);
	int found = look_l4(ip + 1, end, ip->protocol, s);
	word *w = (word *)k;
	w[0] = from | ip->protocol | (__u64)ip->saddr << 32;
	w[1] = ip->daddr | (__u64)s->ports << 32;
	return found == CACHEABLE && (ip->ttl <= 1 || bpf_ntohs(ip->tot_len) != s->len) ? BYPASS : found;
}

static __always_inline int look6(void *at, void *end, __u32 from, struct key6 *k, struct seen *s)
{
	struct ipv6hdr *ip = at;
	if ((void *)(ip + 1) > end || ip->version != 6)
		return OTHER;
	if (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP)
		return OTHER;
	k->from = from | ip->nexthdr;
	__builtin_memcpy(k->src, &ip->saddr, 16);
	__builtin_memcpy(k->dst, &ip->daddr, 16);
	s->headers = sizeof(*ip);
	int found = look_l4(ip + 1, end, ip->nexthdr, s);
	*(half *)&k->sport = s->ports;
	return found == CACHEABLE && (ip->hop_limit <= 1 || bpf_ntohs(ip->payload_len) + sizeof(*ip) != s->len) ? BYPASS : found;
}

// look reads the IP packet at at, and makes its key.
static __always_inline int look(struct __sk_buff *skb, __u32 at, __u32 from, bool v6, union key *k, struct seen *s)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const __u32 need = at + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + sizeof(struct tcphdr);
	if (data + need > end && end - data < skb->len) {
		if (bpf_skb_pull_data(skb, skb->len < need ? skb->len : need))
			return OTHER;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	s->unsummed = false;
	s->ports = 0;
	s->len = skb->len - at;
	return v6 ? look6(data + at, end, from, &k->six, s) : look4(data + at, end, from, &k->four, s);
}

// flow_of is the flow of a key, as parse makes it.
static __always_inline void flow_of(const union key *k, bool v6, struct flow *f)
{
	const struct key4 *four = &k->four;
	const struct key6 *six = &k->six;
	f->src = bpf_ntohl(v6 ? six->src[0] ^ six->src[1] ^ six->src[2] ^ six->src[3] : four->src);
	f->dst = bpf_ntohl(v6 ? six->dst[0] ^ six->dst[1] ^ six->dst[2] ^ six->dst[3] : four->dst);
	f->sport = bpf_ntohs(v6 ? six->sport : four->sport);
	f->dport = bpf_ntohs(v6 ? six->dport : four->dport);
	f->proto = v6 ? six->from : four->from; // its last 8 bits
}

static __always_inline struct entry *entry_of(const union key *k, bool v6)
{
	return v6 ? bpf_map_lookup_elem(&cache6, &k->six) : bpf_map_lookup_elem(&cache4, &k->four);
}

// begins ends the entry of a key by which a connection begins anew, before a worker sees it: what
// that decides may differ, and what follows is not to be forwarded by what is there of the
// connection before, until its worker has put it there again. The worker's order to take it out
// is late for that.
static __always_inline void begins(const union key *k, bool v6)
{
	struct entry *e = entry_of(k, v6);
	if (e)
		e->verdict = VERDICT_OVER;
}

// other_begins is begins for packets that look leaves alone: with options or extension headers,
// and heads of fragments.
static __noinline void other_begins(struct __sk_buff *skb, __u32 at, __u32 from, bool v6)
{
	union key k;
	struct flow f;
	__u8 flags = 0;
	__u32 l4 = at;
	if (parse(skb, &l4, &f) == CANNOT || f.proto != IPPROTO_TCP)
		return;
	if (bpf_skb_load_bytes(skb, l4 + TCP_FLAGS, &flags, 1) || !(flags & SYN))
		return;
	if (!v6) {
		k.four = (struct key4){from | f.proto, bpf_htonl(f.src), bpf_htonl(f.dst), bpf_htons(f.sport), bpf_htons(f.dport)};
	} else {
		k.six = (struct key6){.from = from | f.proto, .sport = bpf_htons(f.sport), .dport = bpf_htons(f.dport)};
		if (bpf_skb_load_bytes(skb, at + offsetof(struct ipv6hdr, saddr), k.six.src, 32)) // both
			return;
	}
	begins(&k, v6);
}

static __always_inline __u16 fold16(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return sum + (sum >> 16);
}

// header_sum adds up an IPv4 header without options: 0xffff when its checksum is right.
static __always_inline __u16 header_sum(const struct iphdr *ip)
{
	const __u16 *word = (const void *)ip;
	__u32 sum = 0;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += word[i];
	return fold16(sum);
}

// The first bytes of an IPv4 packet that an entry says.
struct inner4 {
	struct iphdr ip;
	__be16 sport, dport;
};

// What stands in front of an IP packet on the fabric, Ethernet first, and the beginning
// of an IPv4 packet behind it. lead is not sent: it aligns the rest.
struct tunnel_udp {
	__u16 lead, eth[6];
	__be16 type;
	struct iphdr ip;
	struct udphdr udp;
	__be32 label;
	struct inner4 inner;
};

struct tunnel_gre {
	__u16 lead, eth[6];
	__be16 type;
	struct iphdr ip;
	__be16 flags, proto;
	__be32 label;
	struct inner4 inner;
};

#define LEAD sizeof(__u16)
#define UDP_OUTER (offsetof(struct tunnel_udp, inner) - offsetof(struct tunnel_udp, ip))
#define GRE_OUTER (offsetof(struct tunnel_gre, inner) - offsetof(struct tunnel_gre, ip))

static __always_inline struct iphdr outer_ip(const struct hop *h, __u8 proto, __u32 len)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(len),
		.frag_off = bpf_htons(0x4000), // DF; identification 0 (RFC 6864 4.1)
		.ttl = OUR_TTL,
		.protocol = proto,
		.saddr = h->src,
		.daddr = h->dst,
	};
	ip.check = ~header_sum(&ip);
	return ip;
}

// checksum4 is the header checksum after translation and a hop (RFC 1624).
static __always_inline __u16 checksum4(const struct iphdr *ip, const struct entry *e)
{
	// A hop takes 1 from the upper byte of the word TTL is in.
	return ~fold16((__u16)~ip->check + e->addresses_sum + (__u16)~bpf_htons(0x0100));
}

// hop4 makes an IPv4 header what e says.
static __always_inline void hop4(struct iphdr *ip, const struct entry *e)
{
	ip->check = checksum4(ip, e);
	ip->ttl--;
	ip->saddr = e->src;
	ip->daddr = e->dst;
}

// front writes both Ethernet addresses and the type of a packet that leaves without a tunnel, in place.
static __always_inline bool front(struct __sk_buff *skb, const struct hop *h, __be16 type)
{
	__u32 *eth = (void *)(long)skb->data;
	if ((void *)eth + ETH_HLEN > (void *)(long)skb->data_end)
		return false;
	eth[0] = h->eth[0];
	eth[1] = h->eth[1];
	eth[2] = h->eth[2];
	*(__be16 *)(eth + 3) = type;
	return true;
}

// write4 writes what stands before the L4 header's ports of a packet that leaves without a
// tunnel, and them.
static __always_inline bool write4(struct __sk_buff *skb, const struct entry *e, const struct hop *h)
{
	struct inner4 *in = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(in + 1) > (void *)(long)skb->data_end || !front(skb, h, bpf_htons(ETH_P_IP)))
		return false;
	hop4(&in->ip, e);
	*(half *)&in->sport = *(half *)&e->sport;
	return true;
}

// inner_of reads the IPv4 packet behind outer bytes of a new tunnel, and makes it what e says.
static __always_inline bool inner_of(struct __sk_buff *skb, __u32 outer, const struct entry *e, struct inner4 *to)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN + outer;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return false;
	to->ip = *ip;
	hop4(&to->ip, e);
	to->sport = e->sport;
	to->dport = e->dport;
	return true;
}

// wrap writes a tunnel for which there is room, and with it, of IPv4, the beginning of the
// packet behind it.
static __always_inline bool wrap(struct __sk_buff *skb, bool v6, const struct seen *s, const struct entry *e, const struct hop *h)
{
	if (h->gre) {
		struct tunnel_gre t = {.type = bpf_htons(ETH_P_IP), .proto = bpf_htons(MPLS_UNICAST), .label = e->label};
		__builtin_memcpy(t.eth, h->eth, sizeof(h->eth));
		t.ip = outer_ip(h, IPPROTO_GRE, s->len + GRE_OUTER);
		if (!v6 && !inner_of(skb, GRE_OUTER, e, &t.inner))
			return false;
		return !bpf_skb_store_bytes(skb, 0, t.eth, (v6 ? offsetof(struct tunnel_gre, inner) : sizeof(t)) - LEAD, 0);
	}
	struct tunnel_udp t = {.type = bpf_htons(ETH_P_IP), .label = e->label};
	__builtin_memcpy(t.eth, h->eth, sizeof(h->eth));
	t.ip = outer_ip(h, IPPROTO_UDP, s->len + UDP_OUTER);
	t.udp.source = e->entropy;
	t.udp.dest = bpf_htons(TUNNEL_PORT);
	t.udp.len = bpf_htons(s->len + UDP_OUTER - sizeof(t.ip)); // checksum 0 (RFC 7510 3.1)
	if (!v6 && !inner_of(skb, UDP_OUTER, e, &t.inner))
		return false;
	return !bpf_skb_store_bytes(skb, 0, t.eth, (v6 ? offsetof(struct tunnel_udp, inner) : sizeof(t)) - LEAD, 0);
}

// translate makes the L4 checksum at l4 what it is with the addresses and ports of e. It
// reports failure of the first write, which leaves the packet as it was.
static __always_inline long translate(struct __sk_buff *skb, __u32 l4, const struct seen *s, const struct entry *e)
{
	__u64 udp = s->udp ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 sum = l4 + (s->udp ? 6 : 16), to = *(half *)&e->sport;
	// An unfinished checksum is that of the addresses: the kernel knows which it has.
	if (e->translation & ADDRESSES && bpf_l4_csum_replace(skb, sum, 0, e->addresses_sum, BPF_F_PSEUDO_HDR | udp))
		return -1;
	return e->translation & PORTS ? bpf_l4_csum_replace(skb, sum, s->ports, to, sizeof(to) | udp) : 0;
}

// rewrite6 writes the IPv6 header at at, and the ports.
static __always_inline long rewrite6(struct __sk_buff *skb, __u32 at, const struct entry6 *e)
{
	struct ipv6hdr *in = (void *)(long)skb->data + at, ip;
	if ((void *)(in + 1) > (void *)(long)skb->data_end)
		return -1;
	ip = *in;
	ip.hop_limit--;
	__builtin_memcpy(&ip.saddr, e->src, 16);
	__builtin_memcpy(&ip.daddr, e->dst, 16);
	if (e->e.translation & PORTS && bpf_skb_store_bytes(skb, at + sizeof(ip), &e->e.sport, 4, 0))
		return -1;
	// Recomputed: what bpf_l4_csum_replace takes from the sum over the whole packet
	// is what this puts there. In IPv4 the header's own checksum does.
	return bpf_skb_store_bytes(skb, at, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

// reshape takes off outer bytes of tunnel and makes room for the one of h. If it fails, the
// packet is as it was.
static __always_inline long reshape(struct __sk_buff *skb, __u32 outer, bool v6, const struct hop *h)
{
	if (outer)
		return bpf_skb_adjust_room(skb, -(__s32)outer, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | (v6 ? BPF_F_ADJ_ROOM_DECAP_L3_IPV6 : 0));
	if (h->kind != HOP_TUNNEL)
		return 0;
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L2(4);
	flags |= h->gre ? BPF_F_ADJ_ROOM_ENCAP_L4_GRE : BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	return bpf_skb_adjust_room(skb, h->gre ? GRE_OUTER : UDP_OUTER, BPF_ADJ_ROOM_MAC, flags);
}

// finish writes all headers of a packet that has its shape.
static __always_inline bool finish(struct __sk_buff *skb, bool v6, const struct seen *s, const struct entry *e, const struct hop *h)
{
	if (v6) {
		__u32 at = ETH_HLEN + (h->kind != HOP_TUNNEL ? 0 : h->gre ? GRE_OUTER : UDP_OUTER);
		if (rewrite6(skb, at, (const struct entry6 *)e))
			return false;
	}
	if (h->kind == HOP_TUNNEL)
		return wrap(skb, v6, s, e, h);
	return v6 ? front(skb, h, bpf_htons(ETH_P_IPV6)) : write4(skb, e, h);
}

// cached forwards a packet of e with outer bytes of tunnel in front, or says UP, m marking it.
static __always_inline int cached(struct __sk_buff *skb, __u32 outer, bool v6, struct seen *s, struct entry *e, struct mark *m)
{
	if (!e || e->verdict != VERDICT_FORWARD)
		return UP;
	__u32 scope = e->scope, at = e->nh_at;
	__u64 *gen = bpf_map_lookup_elem(&generations, &scope);
	struct hop *h = bpf_map_lookup_elem(&next_hops, &at);
	if (!gen || *gen != e->gen || !h || h->id != e->nh)
		return UP;
	__u32 size = skb->gso_size, frames = 1, largest = s->len;
	if (s->headers > s->len)
		return UP;
	if (size) {
		frames = (s->len - s->headers + size - 1) / size;
		largest = size + s->headers;
	}
	if (largest > h->room || s->len + h->outer > 0xffff)
		return UP;
	if (s->unsummed && e->translation)
		return UP; // no checksum, or one that is unfinished and happens to be 0 so far
	if (outer && (h->kind == HOP_TUNNEL || (v6 && !decap6)))
		return UP;
	if (!ours(e, frames, m) || reshape(skb, outer, v6, h))
		return UP;
	bool reshaped = outer || h->kind == HOP_TUNNEL;
	if (e->translation) {
		__u32 l4 = ETH_HLEN + (h->kind != HOP_TUNNEL ? 0 : h->gre ? GRE_OUTER : UDP_OUTER) + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
		if (translate(skb, l4, s, e))
			return reshaped ? drop(NO_ROOM) : UP;
	}
	if (!finish(skb, v6, s, e, h))
		return drop(NO_ROOM); // not seen: there was room for what is behind
	__sync_fetch_and_add(&e->packets, frames);
	__sync_fetch_and_add(&e->bytes, s->len + (frames - 1) * s->headers);
	return h->kind == HOP_POD ? bpf_redirect_peer(h->ifindex, 0) : bpf_redirect(h->ifindex, 0);
}
