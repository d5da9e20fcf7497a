/* The interface between the forwarding core and an encapsulation.
 *
 * An encapsulation is one object of type dataplane_encap, handed over in a PyCapsule named
 * DATAPLANE_ENCAP_CAPSULE. The core fills the "in" fields of a call, the encapsulation the "out" fields.
 * Addresses are in network byte order, all integers in host byte order. No callback may block, allocate
 * through Python or touch bytes outside [head, limit).
 */
#ifndef DATAPLANE_ENCAP_ABI_H
#define DATAPLANE_ENCAP_ABI_H

#include <stddef.h>
#include <stdint.h>

#define DATAPLANE_ENCAP_ABI 1
#define DATAPLANE_ENCAP_CAPSULE "dataplane.encap.abi1"

/* Results of push and pop besides drop reasons, which are 1 and up: index into drop_reasons plus one. */
#define DATAPLANE_ENCAP_OK 0
#define DATAPLANE_ENCAP_NOT_MINE (-1) /* pop: another device's id, let that one try */

typedef struct {
    uint8_t *head;  /* lowest byte that may be written */
    uint8_t *data;  /* first byte of the packet */
    uint8_t *tail;  /* one past its last byte */
    uint8_t *limit; /* one past the highest byte that may be written */
} dataplane_encap_bytes;

typedef struct {
    /* in */
    uint8_t family;          /* of the underlay, 4 or 6 */
    uint8_t inner_tos;       /* TOS or traffic class of the inner packet, 0 if it is no IP */
    uint16_t inner_protocol; /* EtherType of what is inside: 0x6558 for an Ethernet frame */
    uint32_t flow_hash;      /* of the inner flow, the same in both directions */
    uint8_t local[16];
    uint8_t remote[16];
    /* out */
    uint8_t ip_protocol; /* of the outer header */
    uint8_t tos;
    uint8_t ttl;
    uint8_t dont_fragment;
} dataplane_encap_push;

typedef struct {
    /* in */
    uint8_t family;
    uint8_t outer_tos;
    uint8_t local[16];
    uint8_t remote[16];
    uint8_t device_mac[6];
    /* out */
    uint16_t inner_protocol; /* as above */
} dataplane_encap_pop;

/* One configuration value of a device: a number, or bytes (then size > 0). */
typedef struct {
    const char *key;
    int64_t number;
    const uint8_t *bytes;
    size_t size;
} dataplane_encap_option;

typedef struct {
    const char *name;     /* lower snake case, the part after "name/" */
    const char *sentence; /* what it means, one sentence without a full stop */
    const char *linux_name; /* SKB_DROP_REASON_* without the prefix, or "" */
} dataplane_encap_reason;

typedef struct dataplane_encap {
    uint32_t abi;               /* DATAPLANE_ENCAP_ABI */
    const char *name;           /* device kind */
    uint8_t ip_protocol;        /* by which a received packet is recognised */
    uint8_t ethernet;           /* inner packets are Ethernet frames: the device has a MAC and an FDB */
    uint16_t overhead_v4;       /* bytes that push adds, the outer IP header included */
    uint16_t overhead_v6;
    const dataplane_encap_reason *drop_reasons;
    int n_drop_reasons;
    /* Make the state of one device; NULL and a message of at most 120 bytes when an option is wrong. */
    void *(*create)(const dataplane_encap_option *options, int n, char *error);
    void (*destroy)(void *state);
    /* UDP port that the device listens on, 0 if it is not carried in UDP. */
    uint16_t (*port)(const void *state);
    /* Put everything between the outer IP header and the inner packet before data. */
    int (*push)(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes);
    /* data is the first byte behind the outer IP header: move it to the inner packet. */
    int (*pop)(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes);
} dataplane_encap;

#endif
