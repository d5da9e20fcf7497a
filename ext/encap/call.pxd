# Calling an encapsulation, none of whose promises is relied on.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memset
from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_pop, dataplane_encap_push, DATAPLANE_ENCAP_CONSUMED,
                            DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.wire.ether cimport ETHERTYPE_TEB

cdef enum:
    GUARD_LEN = 16  # bytes before head and from limit on that belong to the caller and must come back as they were
    GUARD_BYTE = 0xa5
    # what a plug-in did that its contract forbids, besides the results of encap_abi.h
    CALL_BAD_RESULT = -16
    CALL_OVERRUN
    CALL_OUT_OF_BOUNDS
    CALL_BAD_LENGTH
    CALL_BAD_PROTOCOL


cdef inline const char *call_complaint(int v) noexcept nogil:
    """What a result of encap_push() or encap_pop() says against the plug-in; NULL: nothing."""
    if v == CALL_BAD_RESULT:
        return b"returned a result that its contract does not have"
    if v == CALL_OVERRUN:
        return b"wrote before head or behind limit"
    if v == CALL_OUT_OF_BOUNDS:
        return b"moved the packet out of its bounds"
    if v == CALL_BAD_LENGTH:
        return b"wrote more or less than the overhead that it promised"
    if v == CALL_BAD_PROTOCOL:
        return b"named no EtherType that its kind carries"
    return NULL


cdef inline void guards_set(const dataplane_encap_bytes *b) noexcept nogil:
    memset(b.head - GUARD_LEN, GUARD_BYTE, GUARD_LEN)
    memset(b.limit, GUARD_BYTE, GUARD_LEN)


cdef inline bint guards_intact(const dataplane_encap_bytes *b) noexcept nogil:
    cdef uint8_t as_set[GUARD_LEN]
    memset(as_set, GUARD_BYTE, GUARD_LEN)
    return memcmp(b.head - GUARD_LEN, as_set, GUARD_LEN) == 0 and memcmp(b.limit, as_set, GUARD_LEN) == 0


cdef inline bint in_bounds(const dataplane_encap_bytes *b, const dataplane_encap_bytes *given) noexcept nogil:
    return given.head <= b.data and b.data <= b.tail and b.tail <= given.limit


cdef inline int call_result(const dataplane_encap *e, int v) noexcept nogil:
    if v == DATAPLANE_ENCAP_OK or v == DATAPLANE_ENCAP_CONSUMED or 1 <= v <= e.n_drop_reasons:
        return v
    return CALL_BAD_RESULT


cdef inline bint adds_what_it_promised(const dataplane_encap *e, const void *state, int family, uint32_t before, uint32_t after) noexcept nogil:
    """``before``, ``after``: lengths without the outer IP header. Padding may add up to the next multiple of ``align``."""
    cdef uint32_t added = e.overhead(state, family) - (20 if family == 4 else 40)
    cdef uint32_t padding = e.align - 1 if e.align > 1 else 0
    return before + added <= after <= before + added + padding


cdef inline int encap_push(const dataplane_encap *e, void *state, dataplane_encap_push *info, dataplane_encap_bytes *b) noexcept nogil:
    """OK, CONSUMED, a reason of the plug-in, or a complaint about it. The guards around [head, limit) are the caller's bytes."""
    cdef dataplane_encap_bytes given = b[0]
    cdef int family = info.family
    cdef int v
    guards_set(&given)
    v = call_result(e, e.push(state, info, b))
    info.family = <uint8_t>family  # the outer header has the size of this one, whatever the plug-in wrote
    if not guards_intact(&given):
        return CALL_OVERRUN
    if v != DATAPLANE_ENCAP_OK:
        return v
    if not in_bounds(b, &given):
        return CALL_OUT_OF_BOUNDS
    if not adds_what_it_promised(e, state, family, <uint32_t>(given.tail - given.data), <uint32_t>(b.tail - b.data)):
        return CALL_BAD_LENGTH
    return DATAPLANE_ENCAP_OK


cdef inline int encap_pop(const dataplane_encap *e, void *state, dataplane_encap_pop *info, dataplane_encap_bytes *b) noexcept nogil:
    """The same for a received packet, and NOT_MINE."""
    cdef dataplane_encap_bytes given = b[0]
    cdef int v
    guards_set(&given)
    v = e.pop(state, info, b)
    if not guards_intact(&given):
        return CALL_OVERRUN
    if v == DATAPLANE_ENCAP_NOT_MINE:
        return v
    v = call_result(e, v)
    if v != DATAPLANE_ENCAP_OK:
        return v
    if not in_bounds(b, &given):
        return CALL_OUT_OF_BOUNDS
    if info.inner_protocol < 0x600 or (info.inner_protocol == ETHERTYPE_TEB and not e.ethernet):
        return CALL_BAD_PROTOCOL
    return DATAPLANE_ENCAP_OK


cdef inline bint encap_takes(const dataplane_encap *e, int ip_protocol) noexcept nogil:
    """Is a received packet of this IP protocol for this encapsulation?"""
    cdef int i
    for i in range(4):
        if e.ip_protocols[i] == 0:
            return False
        if e.ip_protocols[i] == ip_protocol:
            return True
    return False
