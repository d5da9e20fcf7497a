# Cython's view of encap_abi.h.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, int64_t

cdef extern from "encap_abi.h" nogil:
    enum:
        DATAPLANE_ENCAP_ABI
        DATAPLANE_ENCAP_OK
        DATAPLANE_ENCAP_NOT_MINE
    const char *DATAPLANE_ENCAP_CAPSULE
    ctypedef struct dataplane_encap_bytes:
        uint8_t *head
        uint8_t *data
        uint8_t *tail
        uint8_t *limit
    ctypedef struct dataplane_encap_push:
        uint8_t family
        uint8_t inner_tos
        uint16_t inner_protocol
        uint32_t flow_hash
        uint8_t local[16]
        uint8_t remote[16]
        uint8_t ip_protocol
        uint8_t tos
        uint8_t ttl
        uint8_t dont_fragment
    ctypedef struct dataplane_encap_pop:
        uint8_t family
        uint8_t outer_tos
        uint8_t local[16]
        uint8_t remote[16]
        uint8_t device_mac[6]
        uint16_t inner_protocol
    ctypedef struct dataplane_encap_option:
        const char *key
        int64_t number
        const uint8_t *bytes
        size_t size
    ctypedef struct dataplane_encap_reason:
        const char *name
        const char *sentence
        const char *linux_name
    ctypedef void *(*encap_create_fn)(const dataplane_encap_option *options, int n, char *error) noexcept nogil
    ctypedef void (*encap_destroy_fn)(void *state) noexcept nogil
    ctypedef uint16_t (*encap_port_fn)(const void *state) noexcept nogil
    ctypedef int (*encap_push_fn)(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil
    ctypedef int (*encap_pop_fn)(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil
    ctypedef struct dataplane_encap:
        uint32_t abi
        const char *name
        uint8_t ip_protocol
        uint8_t ethernet
        uint16_t overhead_v4
        uint16_t overhead_v6
        const dataplane_encap_reason *drop_reasons
        int n_drop_reasons
        encap_create_fn create
        encap_destroy_fn destroy
        encap_port_fn port
        encap_push_fn push
        encap_pop_fn pop
