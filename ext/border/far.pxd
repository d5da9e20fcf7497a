# Places for namespaces and devices that are described and not made, and what is known of them.

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from ext.devices.core cimport *


cdef inline void *places_grown(void *at, int before, int now, size_t size) except NULL:
    """Room for more places, the new ones empty."""
    cdef char *grown = <char *>realloc(at, max(now, 1) * size)
    if grown == NULL:
        raise MemoryError
    memset(grown + before * size, 0, (now - before) * size)
    return grown


cdef inline int places_reserve(Core *c, int namespaces, int devices) except -1:
    """Empty places up to these numbers; what is added without a number comes behind them."""
    if namespaces < c.n_ns or devices < c.n_dev:
        raise ValueError("there are more namespaces or devices already")
    c.ns = <Ns **>places_grown(c.ns, c.n_ns, namespaces, sizeof(Ns *))
    c.n_ns = namespaces
    c.dev = <Dev **>places_grown(c.dev, c.n_dev, devices, sizeof(Dev *))
    c.n_dev = devices
    c.far_of = <Far **>places_grown(c.far_of, c.n_reserved, devices, sizeof(Far *))
    c.uncaptured = <uint8_t *>places_grown(c.uncaptured, c.n_reserved, devices, 1)
    c.n_reserved = devices
    return 0


cdef inline int place_namespace(Core *c, int number) except -1:
    """The place of a new namespace: ``number``, which must be empty; -1: one behind all others. Who takes it counts it."""
    cdef Ns **grown
    if number >= 0:
        if number >= c.n_ns or c.ns[number] != NULL:
            raise ValueError(f"place {number} is not reserved for a namespace, or taken")
        return number
    grown = <Ns **>realloc(c.ns, (c.n_ns + 1) * sizeof(Ns *))
    if grown == NULL:
        raise MemoryError
    c.ns = grown
    return c.n_ns


cdef inline int place_device(Core *c, int number) except -1:
    """The place of a new device: ``number``, which must be empty; -1: one behind all others. Who takes it counts it."""
    cdef Dev **grown
    if number >= 0:
        if number >= c.n_dev or c.dev[number] != NULL:
            raise ValueError(f"place {number} is not reserved for a device, or taken")
        return number
    grown = <Dev **>realloc(c.dev, (c.n_dev + 1) * sizeof(Dev *))
    if grown == NULL:
        raise MemoryError
    c.dev = grown
    return c.n_dev


cdef inline int far_describe(Core *c, Dev *d, int device, int ns, bytes mac, int mtu, list addresses, bint always, int64_t latency) except -1:
    """What lies at the other end of ``d``."""
    cdef Far *far
    cdef int i
    if d.kind != DEV_VETH or not 0 <= device < c.n_dev or c.far_of == NULL or c.dev[device] != NULL or c.far_of[device] != NULL:
        raise ValueError("only a veth device leads to a device whose place is reserved and empty")
    if len(mac) != 6 or any([len(address) not in (4, 16) for address in addresses]):
        raise ValueError("a MAC has 6 bytes, an address 4 or 16")
    far = <Far *>calloc(1, sizeof(Far))
    if far == NULL:
        raise MemoryError
    far.addr = <FarAddr *>calloc(max(len(addresses), 1), sizeof(FarAddr))
    if far.addr == NULL:
        free(far)
        raise MemoryError
    far.dev = device
    far.ns = ns
    memcpy(far.mac, <const char *>mac, 6)
    far.mtu = mtu
    far.always = always
    far.n_addr = <int>len(addresses)
    for i, address in enumerate(addresses):
        far.addr[i].alen = <uint8_t>len(address)
        memcpy(far.addr[i].addr, <const char *>(<bytes>address), len(address))
    d.far = c.far_of[device] = far
    d.peer = device
    d.latency = latency
    return 0


cdef inline void far_free(Far *far) noexcept nogil:
    if far != NULL:
        free(far.addr)
        free(far)
