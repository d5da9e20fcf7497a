# Test-only: what eight frames begin with, looked at together and one by one. The wheel leaves this module out.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from ext.devices.core cimport Ns
from ext.fast.headers cimport Sight, roots_wide, sight_is_wide, sight_wide, times_latest
from ext.fast.routed cimport Entrance, OWN_WORDS, Router, own_bit, routed_sees
from ext.tables.lpm_multibit cimport MB_BLOCK

WIDE = bool(sight_is_wide())
BLOCK = MB_BLOCK


cdef class Look:
    """At a router's entrance with this MAC and longest frame, whose namespace has these addresses' bits (and none of the addresses)."""

    cdef Router router
    cdef Entrance entrance
    cdef Ns *ns

    def __cinit__(self, bytes mac, int most, list own):
        cdef uint32_t address, bit
        self.ns = <Ns *>calloc(1, sizeof(Ns))
        if self.ns == NULL:
            raise MemoryError
        self.router.ns = self.ns
        self.entrance.router = &self.router
        self.entrance.most = most
        memcpy(&self.entrance.mac, <const uint8_t *>mac, 6)
        for one in own:
            memcpy(&address, <const uint8_t *>(<bytes>one), 4)
            bit = own_bit(address)
            self.router.own[bit >> 6] |= <uint64_t>1 << (bit & 63)

    def __dealloc__(self):
        free(self.ns)

    def together(self, const uint8_t[::1] data, const int32_t[::1] devs, const uint64_t[::1] starts, const uint32_t[::1] lengths):
        """The places of frames that are known to be ordinary, with their destinations."""
        cdef uint32_t address[64]
        cdef Sight s
        cdef uint64_t seen
        s.mac = self.entrance.mac
        s.own = self.router.own
        s.most = self.entrance.most
        s.dev = devs[0]
        seen = sight_wide(&s, &data[0], &devs[0], &starts[0], &lengths[0], <uint32_t>len(devs), address)
        return {k: (<uint8_t *>&address[k])[:4] for k in range(len(devs)) if seen >> k & 1}

    def alone(self, const uint8_t[::1] data, uint64_t start, uint32_t length):
        """Is this frame ordinary?"""
        return bool(routed_sees(&self.entrance, &data[start], length))

    def own(self, bytes address):
        """Is the bit of this address one of the namespace's?"""
        cdef uint32_t word, bit
        memcpy(&word, <const uint8_t *>address, 4)
        bit = own_bit(word)
        return bool(self.router.own[bit >> 6] >> (bit & 63) & 1)


def roots(const int32_t[::1] root, int bits, bytes addresses):
    """Values of addresses, None: the first node does not know all of them."""
    cdef uint32_t values[MB_BLOCK]
    cdef uint32_t words[MB_BLOCK]
    cdef uint32_t n = <uint32_t>(len(addresses) // 4)
    memcpy(words, <const uint8_t *>addresses, 4 * n)
    return [values[k] for k in range(n)] if roots_wide(&root[0], bits, words, n, values) else None


def latest(const int64_t[::1] times):
    return times_latest(&times[0], len(times))
