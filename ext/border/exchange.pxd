# What was recorded leaves the core whole: its memory is exchanged for memory that has been read, and nothing is copied.

from libc.stdint cimport uint64_t
from ext.devices.core cimport Core, DeliveryRecord, Store, store_bytes


cdef inline void store_swap(Store *a, Store *b) noexcept nogil:
    cdef Store kept = a[0]
    a[0] = b[0]
    b[0] = kept


cdef inline void keep_deliveries(Core *c, const Store *before) noexcept nogil:
    """What applications have still to receive moves along from the byte store ``before``."""
    cdef DeliveryRecord *r = <DeliveryRecord *>c.deliveries.mem
    cdef uint64_t i
    for i in range(c.deliveries.n // sizeof(DeliveryRecord)):
        r[i].at = store_bytes(c, before.mem + r[i].at, r[i].len)


cdef inline void records_exchange(Core *c, Store *frames, Store *drops, Store *data) noexcept nogil:
    """The core's frames, drops and their bytes go out, and the memory given, whatever it held, begins anew in their place."""
    frames.n = drops.n = data.n = 0
    store_swap(&c.frames, frames)
    store_swap(&c.drops, drops)
    store_swap(&c.bytes, data)
    keep_deliveries(c, data)
