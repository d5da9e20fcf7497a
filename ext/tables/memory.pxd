# Large memory for tables: zeroed, backed by huge pages where the system has them, resident only where it is touched.

cdef extern from *:
    """
    #include <stdlib.h>
    #include <stdint.h>
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif

    #define DP_HUGE_PAGE ((size_t)1 << 21)

    /* Zeroed memory, NULL when there is none. Goes back with the same size. */
    static void *memory_take(size_t size)
    {
    #if defined(__linux__)
        if (size >= DP_HUGE_PAGE) {
            size_t spare, whole = size + DP_HUGE_PAGE;
            char *at, *from = (char *)mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (from == (char *)MAP_FAILED)
                return NULL;
            at = (char *)(((uintptr_t)from + DP_HUGE_PAGE - 1) & ~(uintptr_t)(DP_HUGE_PAGE - 1));
            spare = (size_t)(at - from);
            if (spare)
                munmap(from, spare);
            size = (size + 4095) & ~(size_t)4095;
            if (whole - spare > size)
                munmap(at + size, whole - spare - size);
            madvise(at, size, MADV_HUGEPAGE);
            return at;
        }
    #endif
        return calloc(1, size);
    }

    static void memory_give(void *at, size_t size)
    {
    #if defined(__linux__)
        if (at != NULL && size >= DP_HUGE_PAGE) {
            munmap(at, (size + 4095) & ~(size_t)4095);
            return;
        }
    #endif
        free(at);
    }
    """
    void *memory_take(size_t size) noexcept nogil
    void memory_give(void *at, size_t size) noexcept nogil
