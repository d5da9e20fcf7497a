"""Calls push and pop of an encapsulation in a loop in C, as the core does, without the core's own work around them."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_pop, dataplane_encap_push, DATAPLANE_ENCAP_CAPSULE,
                            DATAPLANE_ENCAP_OK)
from ext.encap.ip cimport inner_facts

cdef enum:
    ROOM = 128
    LONGEST = 2048


def push_and_pop(capsule, bytes inner, int protocol, long rounds):
    """The rounds in which what was popped is what was pushed; the packet is carried over IPv4 by a device with default options."""
    cdef const dataplane_encap *e = <const dataplane_encap *>PyCapsule_GetPointer(capsule, DATAPLANE_ENCAP_CAPSULE)
    cdef char error[128]
    cdef uint8_t room[ROOM + LONGEST]
    cdef uint8_t *first = room + ROOM
    cdef dataplane_encap_push info
    cdef dataplane_encap_pop found
    cdef dataplane_encap_bytes b
    cdef uint32_t n = <uint32_t>len(inner)
    cdef long i, good = 0
    cdef void *state = e.create(NULL, 0, NULL, error)
    if state == NULL or n > LONGEST:
        raise ValueError("no device, or too long a packet")
    memcpy(first, <const uint8_t *>inner, n)
    memset(&info, 0, sizeof(info))
    memset(&found, 0, sizeof(found))
    info.family = found.family = 4
    info.id = -1
    inner_facts(&info, protocol, first, n)
    with nogil:
        for i in range(rounds):
            info.flow_hash = <uint32_t>i * 2654435761u
            b.head, b.data, b.tail, b.limit = first - ROOM, first, first + n, first + LONGEST
            if e.push(state, &info, &b) != DATAPLANE_ENCAP_OK or e.pop(state, &found, &b) != DATAPLANE_ENCAP_OK:
                continue
            good += b.data == first and found.inner_protocol == protocol
    e.destroy(state)
    return good
