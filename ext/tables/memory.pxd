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

    /* Zeroed, from the beginning of a cache line; NULL when there is none. Goes back with free(). */
    static void *memory_lines(size_t size)
    {
        void *at = NULL;
        if (posix_memalign(&at, size >= DP_HUGE_PAGE ? DP_HUGE_PAGE : 64, size))
            return NULL;
    #if defined(__linux__)
        if (size >= DP_HUGE_PAGE)
            madvise(at, size & ~(DP_HUGE_PAGE - 1), MADV_HUGEPAGE);
    #endif
        return memset(at, 0, size);
    }
    """
    void *memory_take(size_t size) noexcept nogil
    void *memory_lines(size_t size) noexcept nogil
    void memory_give(void *at, size_t size) noexcept nogil
