"""Encapsulations described by a header template and a list of fields (``dataplane/encap/declarative.py``), handed to the core as plug-ins.

A description becomes a table once; packets meet only ``ext/encap/field_table.pxd``.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy, memset

from ext.encap.abi cimport (dataplane_encap, dataplane_encap_field, dataplane_encap_host, dataplane_encap_option,
                            dataplane_encap_option_help, dataplane_encap_reason, DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE,
                            DATAPLANE_ENCAP_ERROR_LEN)
from ext.encap.device cimport device_configured, device_destroy, device_new
from ext.encap.field_table cimport (BAD_CHECKSUM, BAD_LENGTH, DEFAULTS_MAX, FIELDS_MAX, HEADER_MAX, ID_OUT_OF_RANGE, INNER_TRUNCATED,
                                    NO_HEADROOM, NOT_CARRIED, PROTOCOLS_MAX, SOURCE_IDENTIFIER, TABLE_REASONS, TOO_LONG, TRUNCATED,
                                    UNEXPECTED_HEADER, UNKNOWN_PROTOCOL, ZERO_CHECKSUM, Field, Protocol, Table, TableDevice, field_get,
                                    table_describe, table_option, table_overhead, table_pop, table_port, table_push, table_set_checks,
                                    template_pop, template_push)
from ext.encap.outer cimport OUTER_OPTIONS, outer_help
from ext.encap.udp cimport UDP_HLEN, udp_consistent, udp_defaults
from ext.encap.udp_device cimport UDP_DEVICE_OPTIONS, udp_device_help
from ext.wire.bytes cimport ld16
from ext.wire.ipv4 cimport IPPROTO_UDP

cdef extern from "numbered_kinds.h" nogil:
    enum:
        DATAPLANE_NUMBERED_KINDS
    void numbered_callbacks(dataplane_encap *encap, int kind)
    void *(*numbered_create)(int kind, const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil
    int (*numbered_describe)(int kind, uint8_t protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil

cdef enum:
    OPTIONS_MAX = UDP_DEVICE_OPTIONS + FIELDS_MAX

cdef const Table *tables[DATAPLANE_NUMBERED_KINDS]
cdef list kinds = []  # the objects of class _Kind, by number

LIMITS = {"header": HEADER_MAX, "fields": FIELDS_MAX, "protocols": PROTOCOLS_MAX, "defaults": DEFAULTS_MAX}

cdef dataplane_encap_reason[TABLE_REASONS] REASONS
REASONS[NO_HEADROOM - 1] = dataplane_encap_reason(b"no_headroom", b"No room for the header before the packet", b"NOMEM")
REASONS[TRUNCATED - 1] = dataplane_encap_reason(b"truncated", b"The packet ends inside the header", b"NOT_SPECIFIED")
REASONS[UNEXPECTED_HEADER - 1] = dataplane_encap_reason(
    b"unexpected_header", b"Bits of the header that never change are not what the device writes", b"NOT_SPECIFIED")
REASONS[BAD_LENGTH - 1] = dataplane_encap_reason(
    b"bad_length", b"A length in the header is less than the header or more than the packet", b"NOT_SPECIFIED")
REASONS[BAD_CHECKSUM - 1] = dataplane_encap_reason(b"bad_checksum", b"A checksum in the header is wrong", b"NOT_SPECIFIED")
REASONS[UNKNOWN_PROTOCOL - 1] = dataplane_encap_reason(
    b"unknown_protocol", b"What the packet carries is not known from its header or its IP version", b"UNHANDLED_PROTO")
REASONS[NOT_CARRIED - 1] = dataplane_encap_reason(b"not_carried", b"The header has no value for the protocol of the inner packet", b"NOT_SPECIFIED")
REASONS[ID_OUT_OF_RANGE - 1] = dataplane_encap_reason(
    b"id_out_of_range", b"The identifier that a route or policy asks for does not fit its field", b"NOT_SPECIFIED")
REASONS[TOO_LONG - 1] = dataplane_encap_reason(b"too_long", b"The packet's length does not fit its field", b"PKT_TOO_BIG")
REASONS[INNER_TRUNCATED - 1] = dataplane_encap_reason(
    b"inner_truncated", b"What the packet carries is shorter than its own header", b"NOT_SPECIFIED")
REASONS[ZERO_CHECKSUM - 1] = dataplane_encap_reason(b"zero_checksum", b"The outer UDP checksum is zero over IPv6", b"UDP_CSUM")


cdef class _Kind:
    """One description, compiled."""
    cdef Table table
    cdef dataplane_encap_option_help help[OPTIONS_MAX]
    cdef list texts  # keeps the C strings of both alive

    cdef const char *text(self, str words) except NULL:
        cdef bytes encoded = words.encode()
        self.texts.append(encoded)
        return encoded


cdef void *table_create(int number, const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error) noexcept nogil:
    cdef const Table *t = tables[number]
    cdef TableDevice *d = <TableDevice *>device_new(sizeof(TableDevice), error)
    cdef int i
    if d == NULL:
        return NULL
    d.table = t
    memcpy(d.header, t.header, t.size)
    if t.udp:
        udp_defaults(&d.device.udp, ld16(t.header + 2))
    for i in range(t.n_fields):
        if t.fields[i].source == SOURCE_IDENTIFIER:
            d.id = field_get(&t.fields[i], d.header)
    if device_configured(d, table_option, t.defaults, t.n_defaults, t.encap.name, error) == NULL:
        return NULL
    if device_configured(d, table_option, options, n, t.encap.name, error) == NULL:
        return NULL
    if t.udp and not udp_consistent(&d.device.udp, t.encap.name, error):
        device_destroy(d)
        return NULL
    table_set_checks(d)
    return d


cdef int describe(int number, uint8_t protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    return table_describe(tables[number], data, size, field, context)


cdef int add_field(_Kind kind, row) except -1:
    cdef Table *t = &kind.table
    cdef Field *f = &t.fields[t.n_fields]
    f.name = kind.text(row.name)
    f.option = kind.text(row.option) if row.option else NULL
    f.source = row.source
    f.offset, f.size, f.shift, f.most = row.offset, row.size, row.shift, row.most
    f.whole = row.most + 1 == 1 << 8 * row.size
    f.start, f.plus, f.header_only = row.start, row.plus, row.header_only
    t.n_fields += 1
    return 0


cdef int set_fields(_Kind kind, rows, computed) except -1:
    """``computed``: places in ``rows`` of what push and pop deal with, in their order."""
    cdef Table *t = &kind.table
    cdef int place
    for row in rows:
        add_field(kind, row)
    for place in computed:
        t.computed[t.n_computed] = t.fields[place]
        t.n_computed += 1
    return 0


cdef int set_header(_Kind kind, bytes header, bytes fixed, int protocol) except -1:
    cdef Table *t = &kind.table
    t.size = <uint16_t>len(header)
    t.udp = protocol == IPPROTO_UDP
    t.own = UDP_HLEN if t.udp else 0
    t.encap.ip_protocols[0] = protocol
    memcpy(t.header, <const uint8_t *>header, len(header))
    memcpy(t.fixed, <const uint8_t *>fixed, len(fixed))
    return 0


cdef int set_protocols(_Kind kind, protocols) except -1:
    cdef Table *t = &kind.table
    cdef int i
    t.n_protocols = -1 if protocols is None else <int>len(protocols)
    for i in range(t.n_protocols):
        t.protocols[i] = Protocol(ethertype=protocols[i][0], value=protocols[i][1])
    return 0


cdef int set_options(_Kind kind, dict defaults, dict help) except -1:
    """Defaults of the options that all kinds share, and the help for all options; ``help``: of the fields, by key."""
    cdef Table *t = &kind.table
    cdef int i, n = UDP_DEVICE_OPTIONS if t.udp else OUTER_OPTIONS
    if t.udp:
        udp_device_help(kind.help, kind.text(str(ld16(t.header + 2))), b"0", b"0")
    else:
        outer_help(kind.help, b"0", b"0")
    for key, value in defaults.items():
        for i in range(n):
            if kind.help[i].key.decode() == key:
                kind.help[i].default_value = kind.text(str(value))
        t.defaults[t.n_defaults].key = kind.text(key)
        t.defaults[t.n_defaults].number = value
        t.n_defaults += 1
    for key, (sentence, default) in help.items():
        kind.help[n] = dataplane_encap_option_help(kind.text(key), kind.text(sentence), kind.text(default))
        n += 1
    t.encap.options = kind.help
    t.encap.n_options = n
    return 0


cdef int set_callbacks(_Kind kind) except -1:
    cdef dataplane_encap *e = &kind.table.encap
    e.abi = DATAPLANE_ENCAP_ABI
    e.drop_reasons = REASONS
    e.n_drop_reasons = TABLE_REASONS
    numbered_callbacks(e, <int>len(kinds))
    e.destroy = device_destroy
    e.overhead = table_overhead
    e.port = table_port
    e.push = table_push if kind.table.n_computed else template_push
    e.pop = table_pop if kind.table.n_computed else template_pop
    return 0


cdef int try_out(int number) except -1:
    """ValueError: no device can be made, as a default is out of range."""
    cdef char error[DATAPLANE_ENCAP_ERROR_LEN]
    cdef void *device = table_create(number, NULL, 0, NULL, error)
    if device == NULL:
        raise ValueError((<bytes>error).decode())
    device_destroy(device)
    return 0


def shared_options(bint udp):
    cdef dataplane_encap_option_help rows[UDP_DEVICE_OPTIONS]
    if udp:
        udp_device_help(rows, b"", b"", b"")
    else:
        outer_help(rows, b"", b"")
    return [rows[i].key.decode() for i in range(UDP_DEVICE_OPTIONS if udp else OUTER_OPTIONS)]


def compiled(described):
    global numbered_create, numbered_describe
    cdef _Kind kind = _Kind()
    if len(kinds) == DATAPLANE_NUMBERED_KINDS:
        raise ValueError(f"there are {DATAPLANE_NUMBERED_KINDS} declarative encapsulations already")
    kind.texts = []
    memset(&kind.table, 0, sizeof(Table))
    kind.table.encap.name = kind.text(described.name)
    kind.table.encap.sentence = kind.text(described.sentence)
    kind.table.encap.ethernet = described.ethernet
    set_header(kind, described.header, described.fixed, described.ip_protocol)
    set_fields(kind, described.rows, described.computed)
    set_protocols(kind, described.protocols)
    set_options(kind, described.defaults, described.help)
    set_callbacks(kind)
    numbered_create, numbered_describe = table_create, describe
    tables[len(kinds)] = &kind.table
    try_out(len(kinds))
    kinds.append(kind)
    return PyCapsule_New(&kind.table.encap, DATAPLANE_ENCAP_CAPSULE, NULL)
