"""Python's border to the longest-prefix-match tables of the packet path."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ext.tables.lpm cimport (
    LPM_KEY_BYTES, Lpm as Table, lpm_clear, lpm_count, lpm_delete, lpm_exact, lpm_free, lpm_insert, lpm_lookup, lpm_lookup_within, lpm_new,
    lpm_walk,
)
from ext.tables.lpm_fast cimport LPM_FAST_LARGEST, LpmFast, lpm_fast_changed, lpm_fast_drop, lpm_fast_give_up, lpm_fast_init
from ext.tables.lpm_multibit cimport mb_bytes, mb_find, mb_find_many, mb_key

cimport cython


cdef enum:
    FAST_FROM = 4  # a trie is as fast for fewer
    NOT_FOUND = -1  # 0xffffffff among the values of lookup_many()


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


cdef uint32_t value_itself(void *context, uint32_t value) noexcept nogil:
    return value


cdef void find_in_trie(const Table *t, const uint8_t *addresses, size_t n, uint32_t *values) noexcept nogil:
    cdef size_t i, size = t.bits >> 3
    for i in range(n):
        if lpm_lookup(t, addresses + i * size, &values[i]) < 0:
            values[i] = <uint32_t>NOT_FOUND


@cython.final
cdef class Lpm:
    """Longest-prefix-match table of one family; see the stub file for each method."""

    cdef Table *table
    cdef LpmFast fast

    def __cinit__(self, int family, *, int fast_from=FAST_FROM):
        if family != 4 and family != 6:
            raise ValueError(f"family must be 4 or 6, not {family}")
        if fast_from < 1:
            raise ValueError(f"fast_from must be 1 or more, not {fast_from}")
        self.table = lpm_new(32 if family == 4 else 128)
        if self.table == NULL:
            raise MemoryError("no memory for a longest-prefix-match table")
        self.start_fast(fast_from)

    def __dealloc__(self):
        lpm_fast_drop(&self.fast)
        lpm_free(self.table)

    cdef void start_fast(self, int fast_from) noexcept:
        lpm_fast_init(&self.fast, self.table, NULL, fast_from, value_itself, NULL)

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
        cdef const uint8_t *key = self.key_of(address)
        cdef int plen = self.length_of(prefix_len)
        cdef int result
        if not 0 <= value <= 0xffffffff:
            raise ValueError(f"value must fit 32 bits, not {value}")
        result = lpm_insert(self.table, key, plen, value)
        if result < 0:
            raise MemoryError("no memory for another prefix")
        if value > LPM_FAST_LARGEST:
            lpm_fast_give_up(&self.fast)
        lpm_fast_changed(&self.fast, False, key, plen)
        return result == 1

    def delete(self, bytes address not None, prefix_len):
        cdef const uint8_t *key = self.key_of(address)
        cdef int plen = self.length_of(prefix_len)
        if not lpm_delete(self.table, key, plen):
            return False
        lpm_fast_changed(&self.fast, False, key, plen)
        return True

    def lookup(self, bytes address not None):
        cdef const uint8_t *key = self.key_of(address)
        cdef uint32_t value = 0
        if self.fast.table == NULL:
            return None if lpm_lookup(self.table, key, &value) < 0 else value
        value = mb_find(self.fast.table, mb_key(key, self.table.bits >> 3))
        return None if value == <uint32_t>NOT_FOUND else value

    def lookup_many(self, addresses, values):
        cdef Py_buffer asked, answers
        cdef Py_ssize_t size = self.table.bits >> 3, n
        PyObject_GetBuffer(addresses, &asked, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(values, &answers, PyBUF_WRITABLE)
            try:
                n = asked.len // size
                if asked.len % size:
                    raise ValueError(f"addresses of {size} bytes each, but {asked.len} bytes in all")
                if answers.len < n * 4:
                    raise ValueError(f"{n} values need {n * 4} bytes, not {answers.len}")
                if n and <size_t>answers.buf & 3:
                    raise ValueError("the values must start at a multiple of 4 bytes")
                with nogil:
                    if self.fast.table == NULL:
                        find_in_trie(self.table, <const uint8_t *>asked.buf, n, <uint32_t *>answers.buf)
                    else:
                        mb_find_many(self.fast.table, <const uint8_t *>asked.buf, <int>size, n, <uint32_t *>answers.buf)
                return n
            finally:
                PyBuffer_Release(&answers)
        finally:
            PyBuffer_Release(&asked)

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

    @property
    def fast_bytes(self):
        return 0 if self.fast.table == NULL else mb_bytes(self.fast.table)

    def __len__(self):
        return lpm_count(self.table)

    def clear(self):
        cdef int fast_from = self.fast.from_count
        lpm_clear(self.table)
        lpm_fast_drop(&self.fast)
        self.start_fast(fast_from)
