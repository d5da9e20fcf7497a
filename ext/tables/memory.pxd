# Large memory for tables: zeroed, backed by huge pages where the system has them, resident only where it is touched.

cdef extern from *:
    """
    #include <stdlib.h>
    #include <stdint.h>
    #include <string.h>
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif

    #define DP_HUGE_PAGE ((size_t)1 << 21)
    #define DP_MAPPED ((size_t)1 << 16)  /* from this size on memory goes back to the system at once */

    /* Zeroed memory, NULL when there is none. Goes back with the same size. */
    static void *memory_take(size_t size)
    {
    #if defined(__linux__)
        if (size >= DP_MAPPED) {
            size_t align = size >= DP_HUGE_PAGE ? DP_HUGE_PAGE : 0, whole, before;
            char *from;
            size = (size + 4095) & ~(size_t)4095;
            whole = size + align;
            from = (char *)mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (from == (char *)MAP_FAILED)
                return NULL;
            if (align == 0)
                return from;
            before = (size_t)(-(uintptr_t)from & (align - 1));
            if (before)
                munmap(from, before);
            if (whole - before > size)
                munmap(from + before + size, whole - before - size);
            madvise(from + before, size, MADV_HUGEPAGE);
            return from + before;
        }
    #endif
        return calloc(1, size);
    }

    /* The same, of which every page will be written at once: the system is asked for all of them in one call, where they are small. */
    static void *memory_take_whole(size_t size)
    {
        void *at = memory_take(size);
    #if defined(__linux__)
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23  /* of Linux 5.14; older ones refuse it, and give page by page */
    #endif
        if (at != NULL && size >= DP_MAPPED && size < DP_HUGE_PAGE)
            madvise(at, size, MADV_POPULATE_WRITE);
    #endif
        return at;
    }

    static void memory_give(void *at, size_t size)
    {
    #if defined(__linux__)
        if (at != NULL && size >= DP_MAPPED) {
            munmap(at, (size + 4095) & ~(size_t)4095);
            return;
        }
    #endif
        free(at);
    }

    /* From the beginning of a cache line, whatever is in it; NULL when there is none. Goes back with free(). */
    static void *memory_lines_unset(size_t size)
    {
        void *at = NULL;
        if (posix_memalign(&at, size >= DP_HUGE_PAGE ? DP_HUGE_PAGE : 64, size))
            return NULL;
    #if defined(__linux__)
        if (size >= DP_HUGE_PAGE)
            madvise(at, size & ~(DP_HUGE_PAGE - 1), MADV_HUGEPAGE);
    #endif
        return at;
    }

    /* The same, zeroed. */
    static void *memory_lines(size_t size)
    {
        void *at = memory_lines_unset(size);
        return at != NULL ? memset(at, 0, size) : NULL;
    }
    """
    void *memory_take(size_t size) noexcept nogil
    void *memory_take_whole(size_t size) noexcept nogil
    void *memory_lines_unset(size_t size) noexcept nogil
    void *memory_lines(size_t size) noexcept nogil
    void memory_give(void *at, size_t size) noexcept nogil
