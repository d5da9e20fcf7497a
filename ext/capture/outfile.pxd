# A file that is written in large pieces: one buffer, and write(2) when it is full.
#
# A piece ends where a multiple of ``piece`` bytes of the file ends, and what lies behind waits for the next one: a file system has the
# least work with pages, and with runs of pages, that are written whole. Where there are no offsets (a pipe) all goes out at once.
#
# Of a file that has become large, place on the disk is asked for ahead, as much again as it has, which saves a file system the most of
# its work for each page. It is asked for from the beginning of the file on: ext4 sends a file that replaces another one to the disk before
# the other's name is given to it, if any page of it has no place yet (Documentation/admin-guide/ext4.rst, auto_da_alloc), and whoever
# renames it waits. Without that, a power failure soon after may cost both files; nothing was ever promised of that, as nobody calls fsync(2).
# Where place cannot be had, all is written all the same; who closes the file gives back what is left over (ftruncate(2)).

from libc.errno cimport EINTR, errno
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t
from libc.stdlib cimport realloc
from libc.stdio cimport SEEK_CUR
from libc.string cimport memmove
from posix.types cimport off_t
from posix.unistd cimport lseek, write
from ext.wire.bytes cimport rarely

cdef enum:
    OUT_OF_MEMORY = -1  # in OutFile.error, which else holds errno
    OUT_SLACK = 32  # bytes behind the buffer that may be written and are not kept
    OUT_SPILL = 4096  # bytes of the buffer for blocks that begin in one piece and end in the next
    AHEAD_FROM = 1 << 20  # bytes of a file that is large
    AHEAD_MOST = 32 << 20

cdef extern from *:
    """
    #include <fcntl.h>
    #include <unistd.h>
    /* Have ``size`` bytes of place from offset ``at`` on, without making the file longer; -1: there is none, or nobody can tell. */
    static inline int dp_place_ahead(int fd, long long at, long long size)
    {
    #if defined(__linux__) && defined(FALLOC_FL_KEEP_SIZE)
        return fallocate(fd, FALLOC_FL_KEEP_SIZE, at, size);
    #else
        return -1;
    #endif
    }
    """
    int place_ahead "dp_place_ahead"(int fd, int64_t at, int64_t size) noexcept nogil

cdef struct OutFile:
    int fd  # -1: none yet
    int error  # 0: all is well; after an error nothing more is written
    uint8_t *mem
    uint64_t n
    uint64_t most  # bytes that it has room for, OUT_SLACK aside
    uint64_t piece
    int64_t placed  # bytes of the file, from its beginning, that place is known for


cdef inline void out_place(OutFile *f, int64_t past) noexcept nogil:
    """Have place for the file up to offset ``past``, and ahead."""
    cdef int64_t wanted = past + (past if past < AHEAD_MOST else AHEAD_MOST)
    f.placed = wanted if place_ahead(f.fd, f.placed, wanted - f.placed) == 0 else INT64_MAX


cdef inline void out_write(OutFile *f, uint64_t n, int64_t at) noexcept nogil:
    """Write the first ``n`` bytes of what is gathered, at this offset of the file (-1: it has none); an error is noted."""
    cdef uint64_t done = 0
    cdef ssize_t wrote
    if at >= AHEAD_FROM and at + <int64_t>n > f.placed and f.error == 0:
        out_place(f, at + <int64_t>n)
    while done < n and f.error == 0:
        wrote = write(f.fd, f.mem + done, n - done)
        if wrote >= 0:
            done += wrote
        elif errno != EINTR:
            f.error = errno
    f.n -= n
    if f.n:
        memmove(f.mem, f.mem + n, f.n)


cdef inline void out_flush(OutFile *f) noexcept nogil:
    """Write all that is gathered; an error is noted."""
    out_write(f, f.n, lseek(f.fd, 0, SEEK_CUR))


cdef inline void out_pieces(OutFile *f) noexcept nogil:
    """Write what is gathered of whole pieces; an error is noted."""
    cdef off_t at = lseek(f.fd, 0, SEEK_CUR)  # asked each time: others write to the file too, between two flushes
    cdef uint64_t rest = 0 if at < 0 else (<uint64_t>at + f.n) % f.piece
    if rest < f.n:
        out_write(f, f.n - rest, at)


cdef inline bint out_empty(OutFile *f, uint64_t size) noexcept nogil:
    """Write what can be, and make room for ``size`` bytes. False: an error is noted."""
    cdef uint64_t most = f.piece + OUT_SPILL
    cdef uint8_t *mem
    out_pieces(f)
    if f.n + size > most:
        most = f.n + size
    if f.error == 0 and most > f.most:
        mem = <uint8_t *>realloc(f.mem, most + OUT_SLACK)
        if mem == NULL:
            f.error = OUT_OF_MEMORY
        else:
            f.mem = mem
            f.most = most
    return f.error == 0


cdef inline uint8_t *out_room(OutFile *f, uint64_t size) noexcept nogil:
    """Where the next ``size`` bytes go; NULL: an error is noted."""
    if rarely(f.n + size > f.most) and not out_empty(f, size):
        return NULL
    f.n += size
    return f.mem + f.n - size
