# Cython's view of encap_abi.h, which says what everything means.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

cdef extern from "encap_abi.h" nogil:
    enum:
        DATAPLANE_ENCAP_ABI
        DATAPLANE_ENCAP_ERROR_LEN
        DATAPLANE_ENCAP_OK
        DATAPLANE_ENCAP_NOT_MINE
        DATAPLANE_ENCAP_CONSUMED
        DATAPLANE_ENCAP_STEADY_BUT_PORT
    const char *DATAPLANE_ENCAP_CAPSULE
    ctypedef struct dataplane_encap_ports:
        uint16_t port
        uint16_t port_min
        uint16_t port_max
    ctypedef struct dataplane_encap_bytes:
        uint8_t *head
        uint8_t *data
        uint8_t *tail
        uint8_t *limit
    ctypedef struct dataplane_encap_push:
        int64_t now
        int64_t id
        uint32_t flow_hash
        uint32_t inner_flow_label
        uint16_t inner_protocol
        uint8_t inner_tos
        uint8_t inner_ttl
        uint8_t inner_dont_fragment
        uint8_t family
        uint8_t local[16]
        uint8_t remote[16]
        uint8_t ip_protocol
        uint8_t tos
        uint8_t ttl
        uint8_t dont_fragment
        uint32_t flow_label
        int64_t packet
    ctypedef struct dataplane_encap_pop:
        int64_t now
        uint8_t family
        uint8_t outer_tos
        uint8_t outer_ttl
        uint8_t outer_protocol
        uint8_t local[16]
        uint8_t remote[16]
        uint8_t device_mac[6]
        uint16_t inner_protocol
        int64_t id
    ctypedef struct dataplane_encap_option:
        const char *key
        int64_t number
        const uint8_t *bytes
        size_t size
    ctypedef void (*encap_send_fn)(void *core, int32_t device, const dataplane_encap_push *outer, const uint8_t *payload,
                                   size_t size) noexcept nogil
    ctypedef void (*encap_receive_fn)(void *core, int32_t device, const dataplane_encap_pop *info, const uint8_t *inner,
                                      size_t size) noexcept nogil
    ctypedef void (*encap_wake_fn)(void *core, int32_t device, int64_t at) noexcept nogil
    ctypedef struct dataplane_encap_host:
        void *core
        int32_t device
        encap_send_fn send
        encap_receive_fn receive
        encap_wake_fn wake
    ctypedef struct dataplane_encap_reason:
        const char *name
        const char *sentence
        const char *linux_name
    ctypedef struct dataplane_encap_option_help:
        const char *key
        const char *sentence
        const char *default_value
    ctypedef void (*dataplane_encap_field)(void *context, const char *layer, const char *name, int64_t number, const uint8_t *bytes,
                                           size_t size) noexcept nogil
    ctypedef void *(*encap_create_fn)(const dataplane_encap_option *options, int n, const dataplane_encap_host *host,
                                      char *error) noexcept nogil
    ctypedef void (*encap_destroy_fn)(void *state) noexcept nogil
    ctypedef uint16_t (*encap_overhead_fn)(const void *state, int family) noexcept nogil
    ctypedef uint16_t (*encap_port_fn)(const void *state) noexcept nogil
    ctypedef int (*encap_select_fn)(void *state, dataplane_encap_push *info, const dataplane_encap_bytes *bytes) noexcept nogil
    ctypedef int (*encap_push_fn)(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil
    ctypedef int (*encap_pop_fn)(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil
    ctypedef void (*encap_timer_fn)(void *state, int64_t now) noexcept nogil
    ctypedef int (*encap_describe_fn)(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field,
                                      void *context) noexcept nogil
    ctypedef struct dataplane_encap:
        uint32_t abi
        const char *name
        const char *sentence
        uint8_t ip_protocols[4]
        uint8_t ethernet
        uint8_t steady
        uint16_t align
        const dataplane_encap_option_help *options
        int n_options
        const dataplane_encap_reason *drop_reasons
        int n_drop_reasons
        encap_create_fn create
        encap_destroy_fn destroy
        encap_overhead_fn overhead
        encap_port_fn port
        encap_select_fn select
        encap_push_fn push
        encap_pop_fn pop
        encap_timer_fn timer
        encap_describe_fn describe
