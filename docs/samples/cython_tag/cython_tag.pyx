"""A header of 8 bytes before an IP packet: 0x7a, 0, the EtherType of what is inside, a 32-bit tag; IP protocol 253."""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memset, strcmp

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_ERROR_LEN, DATAPLANE_ENCAP_NOT_MINE,
                            DATAPLANE_ENCAP_OK)
from ext.wire.bytes cimport ld16, ld32, st16, st32

cdef enum:
    SIZE = 8
    MAGIC = 0x7a00
    PROTOCOL = 253  # for experiments (RFC 3692)
    # drop reasons: places in REASONS, counted from 1
    NO_HEADROOM = 1
    TRUNCATED
    BAD_MAGIC
    UNKNOWN_PROTOCOL

cdef struct Device:
    uint32_t tag


cdef void *create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef Device *device = <Device *>calloc(1, sizeof(Device))
    cdef int i
    if device == NULL:
        snprintf(error, DATAPLANE_ENCAP_ERROR_LEN, b"cython_tag: out of memory")
        return NULL
    for i in range(n):
        if strcmp(options[i].key, b"tag") != 0 or options[i].size or options[i].number >> 32:  # also if it is negative
            snprintf(error, DATAPLANE_ENCAP_ERROR_LEN, b"cython_tag: option '%s' is unknown or its value is out of range", options[i].key)
            free(device)
            return NULL
        device.tag = <uint32_t>options[i].number
    return device


cdef void destroy(void *state) noexcept nogil:
    free(state)


cdef uint16_t overhead(const void *state, int family) noexcept nogil:
    return SIZE + (20 if family == 4 else 40)


cdef uint16_t port(const void *state) noexcept nogil:
    return 0


cdef int push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    if bytes.data - bytes.head < SIZE:
        return NO_HEADROOM
    bytes.data -= SIZE
    st16(bytes.data, MAGIC)
    st16(bytes.data + 2, info.inner_protocol)
    st32(bytes.data + 4, (<Device *>state).tag if info.id < 0 else <uint32_t>info.id)
    info.ip_protocol = PROTOCOL
    info.tos = info.inner_tos
    return DATAPLANE_ENCAP_OK


cdef int pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    if bytes.tail - bytes.data < SIZE + 20:  # and the shortest IP header
        return TRUNCATED
    if ld16(bytes.data) != MAGIC:
        return BAD_MAGIC
    info.id = ld32(bytes.data + 4)
    if info.id != (<Device *>state).tag:
        return DATAPLANE_ENCAP_NOT_MINE
    info.inner_protocol = ld16(bytes.data + 2)
    if info.inner_protocol != 0x0800 and info.inner_protocol != 0x86dd:
        return UNKNOWN_PROTOCOL
    bytes.data += SIZE
    return DATAPLANE_ENCAP_OK


cdef int describe(uint8_t ip_protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    if size < SIZE:
        return -1
    field(context, b"tag", b"protocol", ld16(data + 2), NULL, 0)
    field(context, b"tag", b"tag", ld32(data + 4), NULL, 0)
    return SIZE


cdef dataplane_encap_reason[4] REASONS
REASONS[NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the tag before the packet", b"NOMEM")
REASONS[TRUNCATED - 1] = dataplane_encap_reason(b"truncated", b"The packet ends inside the tag or the IP header behind it", b"")
REASONS[BAD_MAGIC - 1] = dataplane_encap_reason(b"bad_magic", b"The packet does not begin with 0x7a00", b"")
REASONS[UNKNOWN_PROTOCOL - 1] = dataplane_encap_reason(b"unknown_protocol", b"The tag announces neither IPv4 nor IPv6", b"")

cdef dataplane_encap_option_help[1] OPTIONS
OPTIONS[0] = dataplane_encap_option_help(b"tag", b"The tag, 0 to 0xffffffff, which tells devices apart", b"0")

cdef dataplane_encap TAG
memset(&TAG, 0, sizeof(TAG))
TAG.abi = DATAPLANE_ENCAP_ABI
TAG.name = b"cython_tag"
TAG.sentence = b"IP packets behind a tag, in Cython"
TAG.ip_protocols[0] = PROTOCOL
TAG.options = OPTIONS
TAG.n_options = 1
TAG.drop_reasons = REASONS
TAG.n_drop_reasons = 4
TAG.create = create
TAG.destroy = destroy
TAG.overhead = overhead
TAG.port = port
TAG.push = push
TAG.pop = pop
TAG.describe = describe

capsule = PyCapsule_New(&TAG, DATAPLANE_ENCAP_CAPSULE, NULL)
