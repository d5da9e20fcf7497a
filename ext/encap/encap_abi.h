/* The interface between the forwarding core and an encapsulation.
 *
 * An encapsulation is one object of type dataplane_encap, handed over in a PyCapsule named
 * DATAPLANE_ENCAP_CAPSULE. The core fills the "in" fields of a call, the encapsulation the "out" fields.
 * Addresses are in network byte order (IPv4: the first 4 of the 16 bytes), all integers in host byte order.
 * Callbacks marked optional may be NULL. No callback may touch bytes outside [head, limit), and none may block.
 */
#ifndef DATAPLANE_ENCAP_ABI_H
#define DATAPLANE_ENCAP_ABI_H

#include <stddef.h>
#include <stdint.h>

#define DATAPLANE_ENCAP_ABI 2
#define DATAPLANE_ENCAP_CAPSULE "dataplane.encap.abi2"
#define DATAPLANE_ENCAP_ERROR_LEN 120 /* of the message that create writes, its terminating zero included */

/* Results of select, push and pop besides drop reasons, which are 1 and up: index into drop_reasons plus one. */
#define DATAPLANE_ENCAP_OK 0
#define DATAPLANE_ENCAP_NOT_MINE (-1) /* pop: another device's id or format, let that one try */
#define DATAPLANE_ENCAP_CONSUMED (-2) /* push: kept to be sent later; pop: a message of the protocol's own, dealt with */

#define DATAPLANE_ENCAP_STEADY_BUT_PORT 2 /* of dataplane_encap.steady */

typedef struct {
    uint16_t port;     /* UDP destination port */
    uint16_t port_min; /* source ports: the lowest, and one past the highest */
    uint16_t port_max;
} dataplane_encap_ports;

typedef struct {
    uint8_t *head;  /* lowest byte that may be written */
    uint8_t *data;  /* first byte of the packet */
    uint8_t *tail;  /* one past its last byte */
    uint8_t *limit; /* one past the highest byte that may be written */
} dataplane_encap_bytes;

typedef struct {
    /* in */
    int64_t now;               /* virtual time in ns */
    int64_t id;                /* identifier asked for by route or policy instead of the device's own; -1: none */
    uint32_t flow_hash;        /* of the inner flow, the same in both directions */
    uint32_t inner_flow_label; /* 0 if the inner packet is not IPv6 */
    uint16_t inner_protocol;   /* EtherType of what is inside: 0x6558 for an Ethernet frame */
    uint8_t inner_tos;         /* TOS or traffic class of the inner packet, 0 if it is no IP */
    uint8_t inner_ttl;         /* TTL or hop limit, likewise */
    uint8_t inner_dont_fragment;
    uint8_t family; /* of the underlay, 4 or 6 */
    uint8_t local[16];
    uint8_t remote[16]; /* select: out, with family */
    /* out */
    uint8_t ip_protocol; /* of the outer header */
    uint8_t tos;
    uint8_t ttl; /* 0: the namespace's default */
    uint8_t dont_fragment;
    uint32_t flow_label; /* of an outer IPv6 header */
    /* in; host.send: out */
    int64_t packet; /* number in traces of the inner packet, or of the one that what is sent carries; 0: none */
} dataplane_encap_push;

typedef struct {
    /* in */
    int64_t now;
    uint8_t family;
    uint8_t outer_tos;
    uint8_t outer_ttl;
    uint8_t outer_protocol; /* the IP protocol that the packet was recognised by */
    uint8_t local[16];
    uint8_t remote[16];
    uint8_t device_mac[6];
    /* out */
    uint16_t inner_protocol; /* as above */
    int64_t id;              /* identifier found in the header; -1: it has none */
} dataplane_encap_pop;

/* One configuration value of a device: a number, or bytes (then size > 0). */
typedef struct {
    const char *key;
    int64_t number;
    const uint8_t *bytes;
    size_t size;
} dataplane_encap_option;

/* What the core does for a device's state; valid until destroy. */
typedef struct {
    void *core;
    int32_t device;
    /* Send payload (what follows the outer IP header) from outer->local to outer->remote. */
    void (*send)(void *core, int32_t device, const dataplane_encap_push *outer, const uint8_t *payload, size_t size);
    /* The device has received an inner packet. */
    void (*receive)(void *core, int32_t device, const dataplane_encap_pop *info, const uint8_t *inner, size_t size);
    /* Call timer once at this virtual time (ns), not earlier than now. */
    void (*wake)(void *core, int32_t device, int64_t at);
} dataplane_encap_host;

typedef struct {
    const char *name;     /* lower snake case, the part after "name/" */
    const char *sentence; /* what it means, one sentence without a full stop */
    const char *linux_name; /* SKB_DROP_REASON_* without the prefix, or "" */
} dataplane_encap_reason;

/* One option that create understands, for people to read. */
typedef struct {
    const char *key;
    const char *sentence;      /* range and unit included */
    const char *default_value; /* as a user would write it, "" if it must be given */
} dataplane_encap_option_help;

/* One field of a header as describe found it: a number, or bytes (then size > 0). */
typedef void (*dataplane_encap_field)(void *context, const char *layer, const char *name, int64_t number, const uint8_t *bytes,
                                      size_t size);

typedef struct dataplane_encap {
    uint32_t abi;            /* DATAPLANE_ENCAP_ABI */
    const char *name;        /* device kind */
    const char *sentence;    /* what it is, with its standard */
    uint8_t ip_protocols[4]; /* by which a received packet is recognised, zero after the last */
    uint8_t ethernet;        /* inner packets are Ethernet frames: the device has a MAC and an FDB */
    /* 1: packets of one flow whose inner IP headers are alike get the same bytes from push, but for length and checksum of a UDP
     * header that comes first, and neither push nor pop keeps any state. GRE headers with a checksum or a sequence number are known
     * to be different. DATAPLANE_ENCAP_STEADY_BUT_PORT: moreover, push puts a UDP header first, and of everything else that it
     * writes nothing depends on the flow; the source port is its hash h within the range of the dataplane_encap_ports that a
     * device's state begins with: the upper half of (h ^ h << 16) * (port_max - port_min), factors of 32 bits, plus port_min. */
    uint8_t steady;
    uint16_t align;          /* inner packets are padded to a multiple of this many bytes; 0 or 1: they are not */
    const dataplane_encap_option_help *options;
    int n_options;
    const dataplane_encap_reason *drop_reasons;
    int n_drop_reasons;
    /* Make the state of one device; NULL and a message when an option is wrong. host is NULL where frames are only
     * encoded and decoded: then there is no timer, and nothing can be sent besides push's result. */
    void *(*create)(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error);
    void (*destroy)(void *state);
    /* Bytes that push adds to a packet that needs no padding, the outer IP header (20 or 40) included. */
    uint16_t (*overhead)(const void *state, int family);
    /* UDP port that the device listens on, 0 if it is not carried in UDP. */
    uint16_t (*port)(const void *state);
    /* Optional: choose the remote end (info->family and info->remote) by the inner packet, which is not to be changed;
     * without it the core takes the device's FDB, route or fixed remote. */
    int (*select)(void *state, dataplane_encap_push *info, const dataplane_encap_bytes *bytes);
    /* Put everything between the outer IP header and the inner packet before data. */
    int (*push)(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes);
    /* data is the first byte behind the outer IP header: move it to the inner packet. */
    int (*pop)(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes);
    /* Optional: the virtual time that wake asked for has come. */
    void (*timer)(void *state, int64_t now);
    /* Optional: name the fields of the headers that begin behind the outer IP header, outermost first; the number of
     * bytes they take, -1 if they are broken off. */
    int (*describe)(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context);
} dataplane_encap;

#endif
