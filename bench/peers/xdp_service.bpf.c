/* Established ClusterIP connections as an XDP program would carry them: one hash lookup, DNAT with checksum differences,
 * TTL, and a VXLAN header in front. It follows no TCP window and keeps no timer: less than a conntrack does.
 *
 * BPF_PROG_TEST_RUN repeats a program on one packet. So that it meets many connections, `next_flow` writes the next one's
 * addresses and ports into the packet first, and the program takes its headers off again afterwards. `source_only` does the first
 * alone: what it takes is to be subtracted.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "xdp_service.h"

struct outer {
    struct ethhdr eth;
    struct iphdr ip;
    struct udphdr udp;
    __be32 vxlan[2];
} __attribute__((packed));

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, struct flow_key);
    __type(value, struct flow_value);
} connections SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct flow_key);
} sequence SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct progress);
} place SEC(".maps");

struct packet {
    struct ethhdr eth;
    struct iphdr ip;
    struct tcphdr tcp;
} __attribute__((packed));

static __always_inline int next_flow(struct xdp_md *ctx, struct progress **progress)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct packet *p = data;
    __u32 zero = 0, number;
    struct flow_key *key;
    *progress = bpf_map_lookup_elem(&place, &zero);
    if (!*progress || (void *)(p + 1) > end)
        return -1;
    number = (*progress)->next;
    (*progress)->next = number + 1 < (*progress)->flows ? number + 1 : 0;
    key = bpf_map_lookup_elem(&sequence, &number);
    if (!key)
        return -1;
    p->ip.saddr = key->source;
    p->ip.daddr = key->destination;
    p->tcp.source = key->source_port;
    p->tcp.dest = key->destination_port;
    return 0;
}

static __always_inline __u16 fold(__u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

static __always_inline void adjust(__sum16 *check, __u32 difference)
{
    *check = ~fold((__u16)~*check + difference);
}

static __always_inline void put_outer(struct outer *o, const struct flow_value *to, __u16 inner)
{
    __u32 sum = 0;
    const __u16 *words = (const __u16 *)&o->ip;
    int i;
    __builtin_memcpy(o->eth.h_dest, to->remote_mac, 6);
    __builtin_memcpy(o->eth.h_source, to->local_mac, 6);
    o->eth.h_proto = bpf_htons(ETH_P_IP);
    o->ip.version = 4;
    o->ip.ihl = 5;
    o->ip.tos = 0;
    o->ip.tot_len = bpf_htons(inner + sizeof(*o) - sizeof(o->eth));
    o->ip.id = 0;
    o->ip.frag_off = 0;
    o->ip.ttl = 64;
    o->ip.protocol = IPPROTO_UDP;
    o->ip.check = 0;
    o->ip.saddr = to->local;
    o->ip.daddr = to->remote;
#pragma unroll
    for (i = 0; i < 10; i++)
        sum += words[i];
    o->ip.check = ~fold(sum);
    o->udp.source = to->entropy;
    o->udp.dest = bpf_htons(8472);
    o->udp.len = bpf_htons(inner + sizeof(o->udp) + sizeof(o->vxlan));
    o->udp.check = 0;
    o->vxlan[0] = bpf_htonl(0x08000000);
    o->vxlan[1] = bpf_htonl(1 << 8);
}

SEC("xdp")
int source_only(struct xdp_md *ctx)
{
    struct progress *progress;
    return next_flow(ctx, &progress) ? XDP_ABORTED : XDP_TX;
}

SEC("xdp")
int service(struct xdp_md *ctx)
{
    void *data, *end;
    struct progress *progress;
    struct flow_value *to;
    struct flow_key key = {};
    struct packet *p;
    __u16 inner;
    if (next_flow(ctx, &progress))
        return XDP_ABORTED;
    data = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    p = data;
    if ((void *)(p + 1) > end || p->eth.h_proto != bpf_htons(ETH_P_IP) || p->ip.ihl != 5 || p->ip.protocol != IPPROTO_TCP)
        return XDP_PASS;
    if (p->ip.ttl <= 1 || p->tcp.syn || p->tcp.fin || p->tcp.rst)
        return XDP_PASS;
    key.source = p->ip.saddr;
    key.destination = p->ip.daddr;
    key.source_port = p->tcp.source;
    key.destination_port = p->tcp.dest;
    key.protocol = IPPROTO_TCP;
    to = bpf_map_lookup_elem(&connections, &key);
    if (!to)
        return XDP_DROP;
    to->packets++;
    p->ip.daddr = to->server;
    p->tcp.dest = to->server_port;
    p->ip.ttl--;
    adjust(&p->ip.check, to->ip_difference);
    adjust(&p->tcp.check, to->tcp_difference);
    __builtin_memcpy(p->eth.h_dest, to->inner_remote_mac, 6);
    __builtin_memcpy(p->eth.h_source, to->inner_local_mac, 6);
    inner = end - data;
    if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct outer)))
        return XDP_ABORTED;
    data = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if (data + sizeof(struct outer) + sizeof(struct packet) > end)
        return XDP_ABORTED;
    put_outer(data, to, inner);
    if (progress->keep)
        return XDP_TX;
    p = data + sizeof(struct outer);
    p->ip.ttl++; /* the same packet comes round again */
    return bpf_xdp_adjust_head(ctx, (int)sizeof(struct outer)) ? XDP_ABORTED : XDP_TX;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
