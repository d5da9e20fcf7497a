"""Encapsulations written as Python classes (``dataplane/encap/python_plugin.py``), handed to the core as plug-ins.

Each callback takes the GIL, turns the structs of ``encap_abi.h`` into Python objects, and whatever the class raises into a
counted drop.
"""

from cpython.exc cimport PyErr_SetInterrupt
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport PyObject, Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uintptr_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset, strncpy

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_pop, dataplane_encap_push, dataplane_encap_reason,
                            DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE, DATAPLANE_ENCAP_CONSUMED, DATAPLANE_ENCAP_ERROR_LEN,
                            DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)

cdef extern from "numbered_kinds.h" nogil:
    enum:
        DATAPLANE_NUMBERED_KINDS
    void numbered_callbacks(dataplane_encap *encap, int kind)
    void *(*numbered_create)(int kind, const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil
    int (*numbered_describe)(int kind, uint8_t protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil

cdef list kinds = []  # the objects of class _Kind, by number
cdef dict living = {}  # (core, device) to the object of class _Device


cdef class _Kind:
    """One Python class, and the struct that the core sees."""
    cdef dataplane_encap struct
    cdef object plugin
    cdef object contract  # the module with the base class and what passes between it and the core
    cdef list texts  # keeps the C strings in ``struct`` alive
    cdef dict reasons  # name to number
    cdef int error, no_room

    cdef const char *text(self, str words):
        cdef bytes encoded = words.encode()
        self.texts.append(encoded)
        return encoded


cdef class _Host:
    """``dataplane_encap_host`` for Python; it works until the device is destroyed."""
    cdef const dataplane_encap_host *host
    cdef list secrets

    cdef const dataplane_encap_host *alive(self) except NULL:
        if self.host == NULL:
            raise RuntimeError("the device is gone")
        return self.host

    def send(self, outer not None, bytes payload not None):
        cdef const dataplane_encap_host *host = self.alive()
        cdef dataplane_encap_push info
        push_struct(outer, &info)
        host.send(host.core, host.device, &info, payload, len(payload))

    def receive(self, incoming not None, bytes inner not None):
        cdef const dataplane_encap_host *host = self.alive()
        cdef dataplane_encap_pop info
        pop_struct(incoming, &info)
        host.receive(host.core, host.device, &info, inner, len(inner))

    def wake(self, int64_t at):
        cdef const dataplane_encap_host *host = self.alive()
        host.wake(host.core, host.device, at)

    def add_secret(self, int kind, bytes data not None):
        self.secrets.append((kind, data))


cdef class _Device:
    """The state of one device."""
    cdef _Kind kind
    cdef object plugin
    cdef _Host host


cdef bytes address(const uint8_t *bytes, int family):
    return bytes[:4] if family == 4 else bytes[:16]


cdef int set_address(uint8_t *target, bytes value) except -1:
    """The family of ``value``."""
    if len(value) != 4 and len(value) != 16:
        raise ValueError(f"an address of {len(value)} bytes")
    memset(target, 0, 16)
    memcpy(target, <const uint8_t *>value, len(value))
    return 4 if len(value) == 4 else 6


cdef object outgoing(_Kind kind, const dataplane_encap_push *info):
    return kind.contract.Outgoing(now=info.now, local=address(info.local, info.family), remote=address(info.remote, info.family), packet=info.packet, id=info.id,
                    flow_hash=info.flow_hash, inner_flow_label=info.inner_flow_label, inner_protocol=info.inner_protocol,
                    inner_tos=info.inner_tos, inner_ttl=info.inner_ttl, inner_dont_fragment=bool(info.inner_dont_fragment))


cdef int push_results(outer, dataplane_encap_push *info) except -1:
    info.ip_protocol = outer.ip_protocol
    info.tos = outer.tos
    info.ttl = outer.ttl
    info.dont_fragment = outer.dont_fragment
    info.flow_label = outer.flow_label
    return 0


cdef int push_struct(outer, dataplane_encap_push *info) except -1:
    memset(info, 0, sizeof(dataplane_encap_push))
    info.now = outer.now
    info.packet = outer.packet
    info.id = outer.id
    info.flow_hash = outer.flow_hash
    info.family = set_address(info.remote, outer.remote)
    if set_address(info.local, outer.local) != info.family:
        raise ValueError("local and remote address are of different families")
    return push_results(outer, info)


cdef object incoming_of(_Kind kind, const dataplane_encap_pop *info):
    return kind.contract.Incoming(now=info.now, local=address(info.local, info.family), remote=address(info.remote, info.family),
                    outer_tos=info.outer_tos, outer_ttl=info.outer_ttl, outer_protocol=info.outer_protocol,
                    device_mac=info.device_mac[:6])


cdef int pop_struct(incoming, dataplane_encap_pop *info) except -1:
    memset(info, 0, sizeof(dataplane_encap_pop))
    info.now = incoming.now
    info.family = set_address(info.remote, incoming.remote)
    set_address(info.local, incoming.local)
    info.outer_tos = incoming.outer_tos
    info.outer_ttl = incoming.outer_ttl
    info.outer_protocol = incoming.outer_protocol
    info.inner_protocol = incoming.inner_protocol
    info.id = incoming.id
    return 0


cdef bytes content(const dataplane_encap_bytes *b):
    return b.data[:b.tail - b.data]


cdef bint put(dataplane_encap_bytes *b, bytes result) noexcept:
    """Replace the packet. It grows into the headroom first, which the core makes anew for each tunnel. False: no room."""
    cdef Py_ssize_t more = len(result) - (b.tail - b.data), before
    if more < 0:
        b.data -= more
    else:
        before = min(more, b.data - b.head)
        if more - before > b.limit - b.tail:
            return False
        b.data -= before
        b.tail += more - before
    memcpy(b.data, <const uint8_t *>result, len(result))
    return True


cdef int refusal(_Kind kind, error) noexcept:
    """What a callback that raised ``error`` returns."""
    if isinstance(error, kind.contract.NotMine):
        return DATAPLANE_ENCAP_NOT_MINE
    if isinstance(error, kind.contract.Refused) and str(error) in kind.reasons:
        return kind.reasons[str(error)]
    if isinstance(error, KeyboardInterrupt):
        PyErr_SetInterrupt()  # it is the program's, and cannot pass through the core
    kind.plugin.failure = error
    return kind.error


cdef int select(void *state, dataplane_encap_push *info, const dataplane_encap_bytes *b) noexcept with gil:
    cdef _Device device = <_Device>state
    try:
        info.family = set_address(info.remote, device.plugin.select(outgoing(device.kind, info), content(b)))
    except BaseException as error:
        return refusal(device.kind, error)
    return DATAPLANE_ENCAP_OK


cdef int push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *b) noexcept with gil:
    cdef _Device device = <_Device>state
    try:
        outer = outgoing(device.kind, info)
        result = device.plugin.push(outer, content(b))
        if result is None:
            return DATAPLANE_ENCAP_CONSUMED
        push_results(outer, info)
        return DATAPLANE_ENCAP_OK if put(b, result) else device.kind.no_room
    except BaseException as error:
        return refusal(device.kind, error)


cdef int pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *b) noexcept with gil:
    cdef _Device device = <_Device>state
    try:
        incoming = incoming_of(device.kind, info)
        result = device.plugin.pop(incoming, content(b))
        if result is None:
            return DATAPLANE_ENCAP_CONSUMED
        info.inner_protocol = incoming.inner_protocol
        info.id = incoming.id
        return DATAPLANE_ENCAP_OK if put(b, result) else device.kind.no_room
    except BaseException as error:
        return refusal(device.kind, error)


cdef void timer(void *state, int64_t now) noexcept with gil:
    cdef _Device device = <_Device>state
    try:
        device.plugin.timer(now)
    except BaseException as error:
        refusal(device.kind, error)


cdef uint16_t overhead(const void *state, int family) noexcept with gil:
    cdef _Device device = <_Device>state
    try:
        return device.plugin.overhead(family)
    except BaseException as error:
        refusal(device.kind, error)
        return 0


cdef uint16_t port(const void *state) noexcept with gil:
    cdef _Device device = <_Device>state
    try:
        return device.plugin.port()
    except BaseException as error:
        refusal(device.kind, error)
        return 0


cdef void *create(int number, const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept with gil:
    cdef _Device device = _Device()
    cdef int i
    device.kind = kinds[number]
    try:
        values = {options[i].key.decode(): options[i].bytes[:options[i].size] if options[i].size else options[i].number for i in range(n)}
        if host != NULL:
            device.host = _Host()
            device.host.host = host
            device.host.secrets = []
        device.plugin = device.kind.plugin(values, device.host)
    except BaseException as wrong:
        message = (str(wrong) if isinstance(wrong, ValueError) else f"{type(wrong).__name__}: {wrong}").encode()
        strncpy(error, message, DATAPLANE_ENCAP_ERROR_LEN - 1)
        error[DATAPLANE_ENCAP_ERROR_LEN - 1] = 0
        return NULL
    if host != NULL:
        living[<uintptr_t>host.core, host.device] = device
    Py_INCREF(device)
    return <void *>device


cdef void destroy(void *state) noexcept with gil:
    cdef _Device device = <_Device>state
    if device.host is not None:
        living.pop((<uintptr_t>device.host.host.core, device.host.host.device), None)
        device.host.host = NULL
    Py_DECREF(device)


cdef int describe(int number, uint8_t protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept with gil:
    cdef _Kind kind = kinds[number]
    cdef bytes layer, name
    try:
        taken, fields = kind.plugin.describe(protocol, data[:size])
        for one in fields:
            layer, name = one.layer.encode(), one.name.encode()
            if isinstance(one.value, bytes):
                field(context, layer, name, 0, one.value, len(one.value))
            else:
                field(context, layer, name, one.value, NULL, 0)
        return taken
    except BaseException as error:
        refusal(kind, error)
        return -1


cdef int set_tables(_Kind kind) except -1:
    """Options and drop reasons; the adapter's own two come last."""
    cdef dataplane_encap_option_help *options
    cdef dataplane_encap_reason *reasons
    given = [*kind.plugin.reasons, ("plugin_error", f"The Python class of {kind.plugin.name} raised an exception", ""),
             ("no_room", f"No room for what {kind.plugin.name} made of the packet", "NOMEM")]
    options = <dataplane_encap_option_help *>calloc(len(kind.plugin.options) + 1, sizeof(dataplane_encap_option_help))
    reasons = <dataplane_encap_reason *>calloc(len(given), sizeof(dataplane_encap_reason))
    if options == NULL or reasons == NULL:
        raise MemoryError
    for i, (key, sentence, default) in enumerate(kind.plugin.options):
        options[i] = dataplane_encap_option_help(kind.text(key), kind.text(sentence), kind.text(default))
    for i, (name, sentence, linux_name) in enumerate(given):
        reasons[i] = dataplane_encap_reason(kind.text(name), kind.text(sentence), kind.text(linux_name))
        kind.reasons[name] = i + 1
    kind.struct.options = options
    kind.struct.n_options = <int>len(kind.plugin.options)
    kind.struct.drop_reasons = reasons
    kind.struct.n_drop_reasons = <int>len(given)
    kind.error, kind.no_room = kind.reasons["plugin_error"], kind.reasons["no_room"]
    return 0


cdef _Kind new_kind(plugin, contract):
    cdef _Kind kind = _Kind()
    cdef dataplane_encap *s = &kind.struct
    base = contract.Encapsulation
    if len(plugin.ip_protocols) >= 4:
        raise ValueError(f"{plugin.name}: more than three IP protocols")
    kind.plugin, kind.contract, kind.texts, kind.reasons = plugin, contract, [], {}
    memset(s, 0, sizeof(dataplane_encap))
    s.abi = DATAPLANE_ENCAP_ABI
    s.name = kind.text(plugin.name)
    s.sentence = kind.text(plugin.sentence)
    for i, protocol in enumerate(plugin.ip_protocols):
        s.ip_protocols[i] = protocol
    s.ethernet = plugin.ethernet
    s.align = plugin.align
    set_tables(kind)
    numbered_callbacks(s, <int>len(kinds))
    s.destroy = destroy
    s.overhead = overhead
    s.port = port
    s.push = push
    s.pop = pop
    if plugin.select is not base.select:
        s.select = select
    if plugin.timer is not base.timer:
        s.timer = timer
    if plugin.describe.__func__ is base.describe.__func__:
        s.describe = NULL
    return kind


def capsule_of(plugin, contract):
    cdef _Kind kind
    global numbered_create, numbered_describe
    for kind in kinds:
        if kind.plugin is plugin:
            return PyCapsule_New(&kind.struct, DATAPLANE_ENCAP_CAPSULE, NULL)
    if len(kinds) == DATAPLANE_NUMBERED_KINDS:
        raise ValueError(f"{plugin.name}: there are {DATAPLANE_NUMBERED_KINDS} encapsulations in Python already")
    numbered_create = create
    numbered_describe = describe
    kind = new_kind(plugin, contract)
    kinds.append(kind)
    return PyCapsule_New(&kind.struct, DATAPLANE_ENCAP_CAPSULE, NULL)


def take_secrets(engine):
    cdef uintptr_t start = <uintptr_t><PyObject *>engine  # the core is part of its engine
    taken = []
    for key in sorted(living):
        if start <= key[0] < start + type(engine).__basicsize__:
            taken += (<_Device>living[key]).host.secrets
            (<_Device>living[key]).host.secrets = []
    return taken
