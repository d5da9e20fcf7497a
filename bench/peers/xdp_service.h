/* What xdp_service.bpf.c and xdp_service.c share. */
#ifndef XDP_SERVICE_H
#define XDP_SERVICE_H

#include <linux/types.h>

struct flow_key {
    __be32 source, destination;
    __be16 source_port, destination_port;
    __u8 protocol, zero[3];
};

struct flow_value {
    __be32 server, local, remote;
    __be16 server_port, entropy;
    __u32 ip_difference, tcp_difference; /* of the words that change, to be added to the complement of a checksum */
    __u8 remote_mac[6], local_mac[6], inner_remote_mac[6], inner_local_mac[6];
    __u64 packets;
};

struct progress {
    __u32 next, flows, keep; /* keep: leave the outer headers on, to look at the packet */
};

#endif
