# Choices that a caller makes in chance's place, and what became of them.

from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset
from ext.devices.core cimport *
from ext.stages.conntrack cimport put_end


cdef inline int pin_add(Ns *ns, int proto, tuple orig, tuple reply) except -1:
    """``orig`` and ``reply``: source, source port, destination, destination port."""
    cdef Pin *pins
    cdef Pin *pin
    if len({len(orig[0]), len(orig[2]), len(reply[0]), len(reply[2])}) != 1 or len(orig[0]) not in (4, 16):
        raise ValueError("all addresses of a pin are of one family")
    pins = <Pin *>realloc(ns.pins, (ns.n_pins + 1) * sizeof(Pin))
    if pins == NULL:
        raise MemoryError
    ns.pins = pins
    pin = &pins[ns.n_pins]
    memset(pin, 0, sizeof(Pin))
    pin.proto = proto
    pin.alen = len(orig[0])
    memcpy(pin.osrc, <const char *>(<bytes>orig[0]), pin.alen)
    memcpy(pin.odst, <const char *>(<bytes>orig[2]), pin.alen)
    memcpy(pin.rsrc, <const char *>(<bytes>reply[0]), pin.alen)
    memcpy(pin.rdst, <const char *>(<bytes>reply[2]), pin.alen)
    pin.osport, pin.odport = orig[1], orig[3]
    pin.rsport, pin.rdport = reply[1], reply[3]
    ns.n_pins += 1
    return 0


cdef inline str pin_text(const Pin *pin):
    cdef int family = 4 if pin.alen == 4 else 6
    cdef char src[64]
    cdef char dst[64]
    put_end(src, 64, pin.osrc, family, True, pin.osport)
    put_end(dst, 64, pin.odst, family, True, pin.odport)
    return f"pin for {src.decode()} > {dst.decode()}"


cdef inline list pin_complaints(Core *c):
    """Pins that the rules did not allow, and pins that no connection took up."""
    cdef int i, k
    cdef Pin *pin
    failures = []
    for i in range(c.n_ns):
        for k in range(c.ns[i].n_pins if c.ns[i] != NULL else 0):
            pin = &c.ns[i].pins[k]
            if not pin.used or not pin.kept:
                why = "the rules do not allow it" if pin.used else "no connection took it up"
                failures.append(f"{c.ns[i].name.decode()}: {pin_text(pin)}: {why}")
    return failures
