# Test-only: TCP segments, looked at eight at a time and one by one. The wheel leaves this module out.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from ext.devices.core cimport DEV_VETH, Dev
from ext.fast.flows cimport FlowCache
from ext.fast.headers cimport sight_is_wide
from ext.fast.key cimport Parsed, key_read, key_read_plainly, packet_sound, segments_begin
from ext.fast.segments cimport segments_plain
from ext.fast.sum cimport net16

WIDE = bool(sight_is_wide())


cdef class Look:
    """At frames that a device sends, in whose namespace VXLAN ends."""

    cdef FlowCache *fc
    cdef Dev *dev

    def __cinit__(self, int number):
        self.fc = <FlowCache *>calloc(1, sizeof(FlowCache))
        self.dev = <Dev *>calloc(1, sizeof(Dev))
        if self.fc == NULL or self.dev == NULL:
            raise MemoryError
        self.dev.id = number
        self.dev.kind = DEV_VETH
        self.fc.n_shapes = 1
        self.fc.shape[0].at = 36
        self.fc.shape[0].port = net16(4789)
        self.fc.shape[0].proto = 17
        self.fc.shape[0].frames = True

    def __dealloc__(self):
        free(self.fc)
        free(self.dev)

    def begin(self, const uint8_t[::1] data, uint64_t start, uint32_t length):
        """Where the segment may begin in frames like this one."""
        return segments_begin(self.fc, self.dev, &data[start], length)

    def together(self, const uint8_t[::1] data, const uint64_t[::1] starts, const uint32_t[::1] lengths, uint32_t at):
        """The places of frames that are known to be plain segments, and nothing else."""
        cdef uint32_t seen = segments_plain(&data[0], &starts[0], &lengths[0], <uint32_t>len(starts), at)
        cdef Parsed a
        return {k for k in range(len(starts))
                if seen >> k & 1 and key_read_plainly(self.fc, self.dev, &data[starts[k]], lengths[k], at, &a)}

    def alone(self, const uint8_t[::1] data, uint64_t start, uint32_t length):
        """Does this frame have a flow's key, and right checksums?"""
        cdef Parsed a
        return bool(key_read(self.fc, self.dev, True, &data[start], length, &a) and not a.tells and packet_sound(&data[start], &a))

    def same_key(self, const uint8_t[::1] data, uint64_t start, uint32_t length, uint32_t at):
        """Is what is read of such a frame the same, whether it was looked at alone or not?"""
        cdef Parsed one, other
        if not key_read(self.fc, self.dev, True, &data[start], length, &one):
            return False
        if not key_read_plainly(self.fc, self.dev, &data[start], length, at, &other):
            return False
        return (one.key.place == other.key.place and one.key.addresses == other.key.addresses and one.key.ports == other.key.ports
                and one.hash == other.hash and one.l3 == other.l3 and one.inner == other.inner and one.length == other.length
                and one.tells == other.tells)
