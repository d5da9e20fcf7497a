# What the encapsulations of this folder share when they read the options of a device.

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.string cimport strcmp
from ext.encap.abi cimport dataplane_encap_option, DATAPLANE_ENCAP_ERROR_LEN


cdef inline bint option_in(const dataplane_encap_option *o, const char *key, int64_t low, int64_t high) noexcept nogil:
    """Is it the option ``key``, with a number from ``low`` to ``high``?"""
    return strcmp(o.key, key) == 0 and o.size == 0 and low <= o.number <= high


cdef inline void option_refuse(const dataplane_encap_option *o, const char *kind, char *error) noexcept nogil:
    """The message of ``create`` about an option that nobody took."""
    snprintf(error, DATAPLANE_ENCAP_ERROR_LEN, b"%s: option '%s' is unknown or its value is out of range", kind, o.key)
