# The options of a Geneve header (RFC 8926 3.5): each a class of 16 bits, a type of 8 and up to 124 bytes of data.

from libc.stdint cimport uint8_t, uint32_t
from ext.encap.abi cimport dataplane_encap_field
from ext.wire.bytes cimport ld16

cdef enum:
    OPTION_HLEN = 4
    OPTION_CRITICAL = 0x80  # of the type
    OPTION_WORDS = 0x1f  # of the last byte of its header: data in units of 4 bytes
    CILIUM_CLASS = 0x014b
    CILIUM_DSR = 0x81
    DSR_V4_SIZE = 12  # address, port and 2 bytes of padding behind the header
    DSR_V6_SIZE = 24


cdef inline uint32_t geneve_option_size(const uint8_t *o, uint32_t left) noexcept nogil:
    """Bytes of the option at ``o``, its header included; 0: it does not fit into the ``left`` bytes."""
    cdef uint32_t size
    if left < OPTION_HLEN:
        return 0
    size = OPTION_HLEN + 4 * <uint32_t>(o[3] & OPTION_WORDS)
    return size if size <= left else 0


cdef inline bint geneve_has_option(const uint8_t *area, uint32_t n, const uint8_t *wanted) noexcept nogil:
    """Is an option of the class and type of ``wanted`` among the ``n`` bytes of options?"""
    cdef uint32_t at = 0, size
    while at < n:
        size = geneve_option_size(area + at, n - at)
        if size == 0:
            return False
        if ld16(area + at) == ld16(wanted) and area[at + 2] == wanted[2]:
            return True
        at += size
    return False


cdef inline bint geneve_has_critical(const uint8_t *area, uint32_t n) noexcept nogil:
    cdef uint32_t at = 0, size
    while at < n:
        size = geneve_option_size(area + at, n - at)
        if size == 0:
            return False
        if area[at + 2] & OPTION_CRITICAL:
            return True
        at += size
    return False


cdef inline void geneve_describe_dsr(const uint8_t *area, uint32_t n, dataplane_encap_field field, void *context) noexcept nogil:
    """Name what Cilium says about direct server return: the service's address and port (its ``bpf/lib/tunnel.h``)."""
    cdef uint32_t at = 0, size
    while at < n:
        size = geneve_option_size(area + at, n - at)
        if size == 0:
            return
        if ld16(area + at) == CILIUM_CLASS and area[at + 2] == CILIUM_DSR and (size == DSR_V4_SIZE or size == DSR_V6_SIZE):
            field(context, b"cilium_dsr", b"address", 0, area + at + OPTION_HLEN, size - OPTION_HLEN - 4)
            field(context, b"cilium_dsr", b"port", ld16(area + at + size - 4), NULL, 0)
        at += size
