# A file that is written in large pieces: one buffer, and write(2) when it is full.
#
# Of a file that has become large, place on the disk is asked for ahead, many pieces at once, which saves a file system the most of its
# work for each page. Where that cannot be, it is written all the same; who closes it gives back what is left over (ftruncate(2)).

from libc.errno cimport EINTR, errno
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t
from libc.stdlib cimport realloc
from posix.unistd cimport write
from ext.wire.bytes cimport rarely

cdef enum:
    OUT_OF_MEMORY = -1  # in OutFile.error, which else holds errno
    OUT_SLACK = 32  # bytes behind the buffer that may be written and are not kept
    AHEAD_FROM = 8 << 20  # bytes of a file that is large
    AHEAD = 32 << 20

cdef extern from *:
    """
    #include <fcntl.h>
    #include <unistd.h>
    /* Have ``size`` bytes of place behind where the next bytes go, without making the file longer; -1: there is none, or nobody can tell. */
    static inline int dp_place_ahead(int fd, long size)
    {
    #if defined(__linux__) && defined(FALLOC_FL_KEEP_SIZE)
        off_t at = lseek(fd, 0, SEEK_CUR);
        return at < 0 ? -1 : fallocate(fd, FALLOC_FL_KEEP_SIZE, at, size);
    #else
        return -1;
    #endif
    }
    """
    int place_ahead "dp_place_ahead"(int fd, long size) noexcept nogil

cdef struct OutFile:
    int fd  # -1: none yet
    int error  # 0: all is well; after an error nothing more is written
    uint8_t *mem
    uint64_t n
    uint64_t most  # bytes that it has room for, OUT_SLACK aside
    uint64_t flush_at  # bytes that are gathered before they are written
    uint64_t written
    int64_t ahead  # bytes behind those that place is known for


cdef inline void out_flush(OutFile *f) noexcept nogil:
    """Write what is gathered; an error is noted."""
    cdef uint64_t done = 0
    cdef ssize_t wrote
    if f.written >= AHEAD_FROM and f.ahead < <int64_t>f.n and f.error == 0:
        f.ahead = AHEAD if place_ahead(f.fd, AHEAD) == 0 else INT64_MAX
    f.written += f.n
    f.ahead -= <int64_t>f.n
    while done < f.n and f.error == 0:
        wrote = write(f.fd, f.mem + done, f.n - done)
        if wrote >= 0:
            done += wrote
        elif errno != EINTR:
            f.error = errno
    f.n = 0


cdef inline bint out_empty(OutFile *f, uint64_t size) noexcept nogil:
    """Write what is gathered, and make room for ``size`` bytes. False: an error is noted."""
    cdef uint64_t most = f.flush_at if size <= f.flush_at else size
    cdef uint8_t *mem
    out_flush(f)
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
