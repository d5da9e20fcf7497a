"""Python's border to the longest-prefix-match table of the packet path."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ext.tables.lpm cimport (
    LPM_KEY_BYTES, Lpm as Table, lpm_clear, lpm_count, lpm_delete, lpm_exact, lpm_free, lpm_insert, lpm_lookup_within, lpm_new, lpm_walk,
)

cimport cython


cdef struct Entry:
    uint8_t key[LPM_KEY_BYTES]
    int plen
    uint32_t value


cdef int append_entry(void *context, const uint8_t *key, int plen, uint32_t value) noexcept nogil:
    cdef Entry **end = <Entry **>context
    memcpy(end[0].key, key, LPM_KEY_BYTES)
    end[0].plen = plen
    end[0].value = value
    end[0] += 1
    return 0


@cython.final
cdef class Lpm:
    """Longest-prefix-match table of one family; see the stub file for each method."""

    cdef Table *table

    def __cinit__(self, int family):
        if family != 4 and family != 6:
            raise ValueError(f"family must be 4 or 6, not {family}")
        self.table = lpm_new(32 if family == 4 else 128)
        if self.table == NULL:
            raise MemoryError("no memory for a longest-prefix-match table")

    def __dealloc__(self):
        lpm_free(self.table)

    cdef const uint8_t *key_of(self, bytes address) except NULL:
        if len(address) * 8 != self.table.bits:
            raise ValueError(f"an address of this table has {self.table.bits // 8} bytes, not {len(address)}")
        return <const uint8_t *>address

    cdef int length_of(self, object prefix_len) except -1:
        if not 0 <= prefix_len <= self.table.bits:
            raise ValueError(f"prefix length must be 0 to {self.table.bits}, not {prefix_len}")
        return prefix_len

    cdef bytes masked(self, bytes address, int plen):
        cdef int bits = self.table.bits
        return (int.from_bytes(address, "big") >> (bits - plen) << (bits - plen)).to_bytes(bits // 8, "big")

    def insert(self, bytes address not None, prefix_len, value):
        cdef int result
        if not 0 <= value <= 0xffffffff:
            raise ValueError(f"value must fit 32 bits, not {value}")
        result = lpm_insert(self.table, self.key_of(address), self.length_of(prefix_len), value)
        if result < 0:
            raise MemoryError("no memory for another prefix")
        return result == 1

    def delete(self, bytes address not None, prefix_len):
        return lpm_delete(self.table, self.key_of(address), self.length_of(prefix_len)) == 1

    def lookup(self, bytes address not None):
        cdef uint32_t value = 0
        if lpm_lookup_within(self.table, self.key_of(address), self.table.bits, &value) < 0:
            return None
        return value

    def lookup_prefix(self, bytes address not None, longest=None):
        cdef uint32_t value = 0
        cdef int limit = self.table.bits if longest is None else self.length_of(longest)
        cdef int plen = lpm_lookup_within(self.table, self.key_of(address), limit, &value)
        if plen < 0:
            return None
        return self.masked(address, plen), plen, value

    def exact(self, bytes address not None, prefix_len):
        cdef uint32_t value = 0
        if not lpm_exact(self.table, self.key_of(address), self.length_of(prefix_len), &value):
            return None
        return value

    def prefixes(self):
        cdef int count = lpm_count(self.table), i
        cdef Entry *entries = <Entry *>malloc((count + 1) * sizeof(Entry))
        cdef Entry *end = entries
        if entries == NULL:
            raise MemoryError("no memory for a list of prefixes")
        try:
            lpm_walk(self.table, append_entry, &end)
            return [(entries[i].key[:self.table.bits // 8], entries[i].plen, entries[i].value) for i in range(count)]
        finally:
            free(entries)

    def __len__(self):
        return lpm_count(self.table)

    def clear(self):
        lpm_clear(self.table)
