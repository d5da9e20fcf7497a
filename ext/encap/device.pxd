# Making and freeing the state of a device, which is the same for all encapsulations of this folder.

from libc.stdlib cimport calloc, free
from libc.stdio cimport snprintf
from ext.encap.abi cimport dataplane_encap_option, DATAPLANE_ENCAP_ERROR_LEN
from ext.encap.options cimport option_refuse

ctypedef bint (*take_option_fn)(void *device, const dataplane_encap_option *o) noexcept nogil


cdef inline void *device_new(size_t size, char *error) noexcept nogil:
    """Zeroed memory of this many bytes; NULL and a message where there is none."""
    cdef void *device = calloc(1, size)
    if device == NULL:
        snprintf(error, DATAPLANE_ENCAP_ERROR_LEN, b"out of memory")
    return device


cdef inline void device_destroy(void *device) noexcept nogil:
    free(device)


cdef inline void *device_configured(void *device, take_option_fn take, const dataplane_encap_option *options, int n, const char *kind,
                                    char *error) noexcept nogil:
    """The device with its options taken; NULL, the device freed and a message if ``take`` refuses one."""
    cdef int i
    for i in range(n):
        if not take(device, &options[i]):
            option_refuse(&options[i], kind, error)
            free(device)
            return NULL
    return device
