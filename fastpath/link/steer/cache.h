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
// whose generation has passed, a verdict of a later version. It drops nothing.
//
// Headers are read in place (after bpf_skb_pull_data where they are not linear) and
// written with helpers, which take care of clones.

#include <linux/tcp.h>

#define MAX_CACHE 65536 // entries; Open may say another number
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

// One direction of a flow, network byte order; an IPv4 address is the last word
// behind 0, 0, ffff.
struct key {
	__u32 from; // FROM_LABEL | vif id or label << 8 | protocol
	__be32 src[4], dst[4];
	__be16 sport, dport;
};

#define FROM_LABEL (1U << 31)

enum verdict {
	VERDICT_NONE,
	VERDICT_FORWARD,
};

// Which parts of the tuple an entry translates.
enum translation {
	ADDRESSES = 1,
	PORTS = 2,
};

struct entry {
	__be32 src[4], dst[4]; // after translation, as all that follows
	__be16 sport, dport;
	__u32 addresses_sum; // what translating adds to a sum over the addresses
	enum translation translation;
	enum verdict verdict;
	__be16 entropy;       // outer UDP source port
	__u16 handover, turn; // slot while packets may be under way
	__u16 pad;
	__be32 label; // whole label stack entry
	__u32 nh;     // id of the next hop, and
	__u32 nh_at;  // where it is in next_hops
	__u32 scope, gen;
	__u32 index; // of the worker's entry
	__u64 packets, bytes, last;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH); // not LRU: nothing goes without being told to
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_CACHE);
	__type(key, struct key);
	__type(value, struct entry);
} cache SEC(".maps");

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
};

struct hop {
	__u32 id;
	__u32 ifindex;
	__be32 src, dst; // outer
	__u32 room;      // bytes, largest inner IP packet
	enum hop_kind kind;
	__u8 gre;
	__u8 eth[2 * ETH_ALEN];
	__u8 pad[3];
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

// offload.Slot.
struct slot {
	__u64 up, done;
	__u32 turn, active;
	__u64 pad[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

#define ACCESS_ONCE(x) (*(volatile typeof(x) *)&(x))

// What look finds.
enum found {
	OTHER,     // neither of the following
	BYPASS,    // whole TCP or UDP without options: key is filled in
	CACHEABLE, // and nothing in it asks for a worker
};

struct seen {
	__u32 len;     // of the IP packet
	__u32 headers; // of it, IP's and L4's
	bool v6, unsummed;
	union {
		struct iphdr ip4;
		struct ipv6hdr ip6;
	};
};

// look_l4 reads the L4 header at h, which ends before end, of a packet whose key has addresses.
static __always_inline int look_l4(void *h, void *end, __u8 proto, struct key *k, struct seen *s)
{
	struct udphdr *udp = h;
	struct tcphdr *tcp = h;
	if ((void *)(udp + 1) > end)
		return OTHER;
	k->sport = udp->source;
	k->dport = udp->dest;
	k->from |= proto;
	if (proto == IPPROTO_UDP) {
		s->headers += sizeof(*udp);
		s->unsummed = !udp->check;
		return CACHEABLE;
	}
	if ((void *)(tcp + 1) > end)
		return BYPASS;
	s->headers += tcp->doff * 4;
	return tcp->syn || tcp->fin || tcp->rst ? BYPASS : CACHEABLE;
}

// look reads the IP packet at at, and begins its key.
static __always_inline int look(struct __sk_buff *skb, __u32 at, bool v6, struct key *k, struct seen *s)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const __u32 need = at + sizeof(struct ipv6hdr) + sizeof(struct tcphdr);
	if (data + need > end && end - data < skb->len) {
		if (bpf_skb_pull_data(skb, skb->len < need ? skb->len : need))
			return OTHER;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	__builtin_memset(k, 0, sizeof(*k));
	s->v6 = v6;
	s->unsummed = false;
	s->len = skb->len - at;
	if (v6) {
		struct ipv6hdr *ip = data + at;
		if ((void *)(ip + 1) > end || ip->version != 6)
			return OTHER;
		if (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP)
			return OTHER;
		s->ip6 = *ip;
		s->headers = sizeof(*ip);
		__builtin_memcpy(k->src, &ip->saddr, 16);
		__builtin_memcpy(k->dst, &ip->daddr, 16);
		int found = look_l4(ip + 1, end, ip->nexthdr, k, s);
		if (found != CACHEABLE)
			return found;
		if (ip->hop_limit <= 1)
			return BYPASS;
		return bpf_ntohs(ip->payload_len) + sizeof(*ip) == s->len ? CACHEABLE : BYPASS;
	}
	struct iphdr *ip = data + at;
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5)
		return OTHER;
	if ((ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP) || ip->frag_off & bpf_htons(FRAGMENTED))
		return OTHER;
	s->ip4 = *ip;
	s->headers = sizeof(*ip);
	k->src[2] = k->dst[2] = bpf_htonl(0xffff);
	k->src[3] = ip->saddr;
	k->dst[3] = ip->daddr;
	int found = look_l4(ip + 1, end, ip->protocol, k, s);
	if (found != CACHEABLE)
		return found;
	if (ip->ttl <= 1)
		return BYPASS;
	return bpf_ntohs(ip->tot_len) == s->len ? CACHEABLE : BYPASS;
}

// flow_of is the flow of a key, as parse makes it.
static __always_inline void flow_of(const struct key *k, bool v6, struct flow *f)
{
	__builtin_memset(f, 0, sizeof(*f));
	f->src = bpf_ntohl(v6 ? k->src[0] ^ k->src[1] ^ k->src[2] ^ k->src[3] : k->src[3]);
	f->dst = bpf_ntohl(v6 ? k->dst[0] ^ k->dst[1] ^ k->dst[2] ^ k->dst[3] : k->dst[3]);
	f->sport = bpf_ntohs(k->sport);
	f->dport = bpf_ntohs(k->dport);
	f->proto = k->from; // its last 8 bits
}

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
	if (up && up == ACCESS_ONCE(s->done)) {
		e->handover = 0;
		s->active = e->turn;
		return true;
	}
	__sync_fetch_and_add(&s->up, frames);
	m->slot = at;
	m->turn = e->turn;
	return false;
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

// What stands in front of an IP packet on the fabric, Ethernet first.
struct tunnel_udp {
	__u8 eth[12];
	__be16 type;
	struct iphdr ip;
	struct udphdr udp;
	__be32 label;
} __attribute__((packed));

struct tunnel_gre {
	__u8 eth[12];
	__be16 type;
	struct iphdr ip;
	__be16 flags, proto;
	__be32 label;
} __attribute__((packed));

#define UDP_OUTER (sizeof(struct tunnel_udp) - ETH_HLEN)
#define GRE_OUTER (sizeof(struct tunnel_gre) - ETH_HLEN)

static __always_inline __u32 overhead(const struct hop *h)
{
	return h->kind != HOP_TUNNEL ? 0 : h->gre ? GRE_OUTER : UDP_OUTER;
}

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

// front writes what stands before the IP packet, for which there is room.
static __always_inline long front(struct __sk_buff *skb, const struct seen *s, const struct entry *e, const struct hop *h)
{
	if (h->kind != HOP_TUNNEL) {
		struct ethhdr eth;
		__builtin_memcpy(&eth, h->eth, sizeof(h->eth));
		eth.h_proto = s->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
		return bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0);
	}
	if (h->gre) {
		struct tunnel_gre t = {.type = bpf_htons(ETH_P_IP), .proto = bpf_htons(MPLS_UNICAST), .label = e->label};
		__builtin_memcpy(t.eth, h->eth, sizeof(h->eth));
		t.ip = outer_ip(h, IPPROTO_GRE, s->len + GRE_OUTER);
		return bpf_skb_store_bytes(skb, 0, &t, sizeof(t), 0);
	}
	struct tunnel_udp t = {.type = bpf_htons(ETH_P_IP), .label = e->label};
	__builtin_memcpy(t.eth, h->eth, sizeof(h->eth));
	t.ip = outer_ip(h, IPPROTO_UDP, s->len + UDP_OUTER);
	t.udp.source = e->entropy;
	t.udp.dest = bpf_htons(TUNNEL_PORT);
	t.udp.len = bpf_htons(s->len + UDP_OUTER - sizeof(t.ip));
	return bpf_skb_store_bytes(skb, 0, &t, sizeof(t), 0); // checksum 0 (RFC 7510 3.1)
}

// checksum4 is the header checksum after translation and a hop (RFC 1624).
static __always_inline __u16 checksum4(const struct iphdr *ip, const struct entry *e)
{
	// A hop takes 1 from the upper byte of the word TTL is in.
	return ~fold16((__u16)~ip->check + e->addresses_sum + (__u16)~bpf_htons(0x0100));
}

// rewrite writes the IP header at at and the L4 ports and checksum as e says. It reports failure
// of the first write, which leaves the packet as it was.
static __always_inline long rewrite(struct __sk_buff *skb, __u32 at, struct seen *s, const struct key *k, const struct entry *e)
{
	__u32 l4 = at + (s->v6 ? sizeof(s->ip6) : sizeof(s->ip4));
	__u64 udp = (__u8)k->from == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 sum = l4 + (udp ? 6 : 16);
	struct {
		__be16 sport, dport;
	} ports = {e->sport, e->dport};
	__u32 from, to;
	__builtin_memcpy(&from, &k->sport, 4);
	__builtin_memcpy(&to, &ports, 4);
	// An unfinished checksum is that of the addresses: the kernel knows which it has.
	if (e->translation & ADDRESSES && bpf_l4_csum_replace(skb, sum, 0, e->addresses_sum, BPF_F_PSEUDO_HDR | udp))
		return -1;
	if (e->translation & PORTS && (bpf_l4_csum_replace(skb, sum, from, to, sizeof(to) | udp) || bpf_skb_store_bytes(skb, l4, &to, sizeof(to), 0)))
		return -1;
	if (s->v6) {
		s->ip6.hop_limit--;
		__builtin_memcpy(&s->ip6.saddr, e->src, 16);
		__builtin_memcpy(&s->ip6.daddr, e->dst, 16);
		// Recomputed: what bpf_l4_csum_replace takes from the sum over the whole packet
		// is what this puts there. In IPv4 the header's own checksum does.
		return bpf_skb_store_bytes(skb, at, &s->ip6, sizeof(s->ip6), BPF_F_RECOMPUTE_CSUM);
	}
	s->ip4.check = checksum4(&s->ip4, e);
	s->ip4.ttl--;
	s->ip4.saddr = e->src[3];
	s->ip4.daddr = e->dst[3];
	return bpf_skb_store_bytes(skb, at, &s->ip4, sizeof(s->ip4), 0);
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
	return bpf_skb_adjust_room(skb, overhead(h), BPF_ADJ_ROOM_MAC, flags);
}

// cached forwards a packet with outer bytes of tunnel in front, or says UP, m marking it.
static __always_inline int cached(struct __sk_buff *skb, __u32 outer, struct key *k, struct seen *s, struct mark *m)
{
	struct entry *e = bpf_map_lookup_elem(&cache, k);
	if (!e || e->verdict != VERDICT_FORWARD)
		return UP;
	__u32 scope = e->scope, at = e->nh_at;
	__u64 *gen = bpf_map_lookup_elem(&generations, &scope);
	struct hop *h = bpf_map_lookup_elem(&next_hops, &at);
	if (!gen || *gen != e->gen || !h || h->id != e->nh)
		return UP;
	__u32 size = skb->gso_size, payload = s->len - s->headers;
	if (s->headers > s->len)
		return UP;
	__u32 frames = size ? (payload + size - 1) / size : 1;
	if ((size ? size + s->headers : s->len) > h->room || s->len + overhead(h) > 0xffff)
		return UP;
	if (s->unsummed && e->translation)
		return UP; // no checksum, or one that is unfinished and happens to be 0 so far
	if (outer && (h->kind == HOP_TUNNEL || (s->v6 && !decap6)))
		return UP;
	if (!ours(e, frames, m) || reshape(skb, outer, s->v6, h))
		return UP;
	bool reshaped = outer || h->kind == HOP_TUNNEL;
	if (rewrite(skb, ETH_HLEN + overhead(h), s, k, e))
		return reshaped ? drop(NO_ROOM) : UP;
	if (front(skb, s, e, h))
		return drop(NO_ROOM); // not seen: there was room for what is behind
	__sync_fetch_and_add(&e->packets, frames);
	__sync_fetch_and_add(&e->bytes, s->len + (frames - 1) * s->headers);
	e->last = bpf_ktime_get_coarse_ns();
	return h->kind == HOP_POD ? bpf_redirect_peer(h->ifindex, 0) : bpf_redirect(h->ifindex, 0);
}
