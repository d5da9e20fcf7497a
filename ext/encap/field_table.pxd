# Encapsulations that are a header template and a table of its computed fields: what push and pop do with such a table.
#
# Offsets count from the first byte behind the outer IP header, so the UDP header of a kind carried in UDP is part of the template.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, strcmp
from ext.encap.abi cimport (dataplane_encap, dataplane_encap_bytes, dataplane_encap_field, dataplane_encap_option, dataplane_encap_pop,
                            dataplane_encap_push, DATAPLANE_ENCAP_NOT_MINE, DATAPLANE_ENCAP_OK)
from ext.encap.options cimport option_in
from ext.encap.outer cimport outer_option, outer_push
from ext.encap.udp cimport udp_describe, udp_refused, udp_write
from ext.encap.udp_device cimport UdpDevice, udp_device_option
from ext.wire.bytes cimport ld16, ld32, st16, st32
from ext.wire.checksum cimport csum_bytes
from ext.wire.ether cimport ETH_HLEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MIN, ETHERTYPE_TEB
from ext.wire.ipv4 cimport IPV4_HLEN
from ext.wire.ipv6 cimport IPV6_HLEN

cdef enum:
    HEADER_MAX = 128
    FIELDS_MAX = 32
    PROTOCOLS_MAX = 16
    DEFAULTS_MAX = 16
    CHECKS_MAX = HEADER_MAX // 4 + 2
    # where the value of a field comes from
    SOURCE_TEMPLATE = 0
    SOURCE_OPTION
    SOURCE_IDENTIFIER
    SOURCE_PROTOCOL
    SOURCE_LENGTH
    SOURCE_FLOW_HASH
    SOURCE_CHECKSUM
    # drop reasons, counted from 1
    NO_HEADROOM = 1
    TRUNCATED
    UNEXPECTED_HEADER
    BAD_LENGTH
    BAD_CHECKSUM
    UNKNOWN_PROTOCOL
    NOT_CARRIED
    ID_OUT_OF_RANGE
    TOO_LONG
    INNER_TRUNCATED
    ZERO_CHECKSUM
    TABLE_REASONS = ZERO_CHECKSUM

cdef struct Field:
    uint8_t source
    uint8_t size  # bytes that it touches, 1 to 5
    uint8_t shift  # bits below it in the last of them
    uint8_t whole  # all bits of its bytes are its own
    uint8_t header_only  # checksum: the packet behind the header is not part of it
    uint16_t offset
    uint16_t start  # length and checksum: the byte of the header that they count from
    int64_t plus  # length: added
    uint32_t most  # highest value
    const char *name
    const char *option  # NULL: none sets it

cdef struct Protocol:
    uint16_t ethertype
    uint32_t value

cdef struct Check:  # bits of the header that are always the same
    uint32_t want
    uint32_t mask
    uint16_t offset
    uint8_t size  # 4, 2 or 1

cdef struct Table:
    dataplane_encap encap
    uint8_t header[HEADER_MAX]
    uint8_t fixed[HEADER_MAX]  # bits that must be received as they are written, those of options included
    uint16_t size
    uint16_t own  # where the kind's own header begins: behind UDP's
    uint8_t udp
    int n_fields
    int n_computed
    int n_protocols
    int n_defaults
    Field fields[FIELDS_MAX]  # all that have names, in the order of the header
    Field computed[FIELDS_MAX]  # those that push and pop deal with, checksums last
    Protocol protocols[PROTOCOLS_MAX]  # none: the field holds the EtherType
    dataplane_encap_option defaults[DEFAULTS_MAX]

cdef struct TableDevice:
    UdpDevice device
    const Table *table
    int64_t id
    int n_checks
    Check checks[CHECKS_MAX]
    uint8_t header[HEADER_MAX]  # the template with the device's options


# ---- one field

cdef inline uint32_t field_get(const Field *f, const uint8_t *header) noexcept nogil:
    cdef const uint8_t *at = header + f.offset
    cdef uint64_t value = 0
    cdef int i
    if f.whole and f.size == 2:
        value = ld16(at)
    elif f.whole and f.size == 4:
        value = ld32(at)
    else:
        for i in range(f.size):
            value = value << 8 | at[i]
    return <uint32_t>(value >> f.shift) & f.most


cdef inline void field_set(const Field *f, uint8_t *header, uint32_t number) noexcept nogil:
    """``number`` is not over ``most``."""
    cdef uint8_t *at = header + f.offset
    cdef uint64_t value = <uint64_t>number << f.shift, mask = <uint64_t>f.most << f.shift
    cdef int i
    if f.whole and f.size == 2:
        st16(at, number)
    elif f.whole and f.size == 4:
        st32(at, number)
    else:
        for i in range(f.size - 1, -1, -1):
            at[i] = <uint8_t>(at[i] & ~mask | value)
            mask >>= 8
            value >>= 8


cdef inline bint protocol_to_field(const Table *t, int ethertype, uint32_t *value) noexcept nogil:
    """False: the kind does not carry it."""
    cdef int i
    if t.n_protocols == 0:
        value[0] = <uint32_t>ethertype
        return ethertype >= ETHERTYPE_MIN and ethertype != ETHERTYPE_TEB
    for i in range(t.n_protocols):
        if t.protocols[i].ethertype == ethertype:
            value[0] = t.protocols[i].value
            return True
    return False


cdef inline int protocol_from_field(const Table *t, uint32_t value) noexcept nogil:
    """EtherType, 0: none."""
    cdef int i
    if t.n_protocols == 0:
        return <int>value if value >= ETHERTYPE_MIN and value != ETHERTYPE_TEB else 0
    for i in range(t.n_protocols):
        if t.protocols[i].value == value:
            return t.protocols[i].ethertype
    return 0


# ---- writing

cdef inline int compute(const TableDevice *d, const Field *f, const dataplane_encap_push *info, uint8_t *header,
                        uint32_t n) noexcept nogil:
    """Fill in one field of a header that begins a packet of ``n`` bytes: OK or a reason."""
    cdef uint32_t value
    cdef int64_t length
    if f.source == SOURCE_IDENTIFIER:
        if info.id < 0:
            return DATAPLANE_ENCAP_OK
        if info.id > f.most:
            return ID_OUT_OF_RANGE
        value = <uint32_t>info.id
    elif f.source == SOURCE_PROTOCOL:
        if not protocol_to_field(d.table, info.inner_protocol, &value):
            return NOT_CARRIED
    elif f.source == SOURCE_LENGTH:
        length = <int64_t>n - f.start + f.plus
        if length < 0 or length > f.most:
            return TOO_LONG
        value = <uint32_t>length
    elif f.source == SOURCE_FLOW_HASH:
        value = <uint32_t>((<uint64_t>info.flow_hash * (<uint64_t>f.most + 1)) >> 32)
    else:
        value = csum_bytes(header + f.start, (d.table.size if f.header_only else n) - f.start)
    field_set(f, header, value)
    return DATAPLANE_ENCAP_OK


cdef inline void copy_header(uint8_t *to, const uint8_t *header, int at, int size) noexcept nogil:
    """Headers are short: words that the compiler copies in place are faster than a call."""
    while size - at >= 4:
        memcpy(to + at, header + at, 4)
        at += 4
    while at < size:
        to[at] = header[at]
        at += 1


cdef inline bint carries(const Table *t, int inner_protocol) noexcept nogil:
    """Can this be carried, as far as no field of the header says what it is?"""
    if t.encap.ethernet:
        return inner_protocol == ETHERTYPE_TEB
    return t.n_protocols >= 0 or inner_protocol == ETHERTYPE_IPV4 or inner_protocol == ETHERTYPE_IPV6


cdef inline int write_template(const TableDevice *d, const dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    """OK or a reason."""
    cdef const Table *t = d.table
    if not carries(t, info.inner_protocol):
        return NOT_CARRIED
    if bytes.data - bytes.head < t.size:
        return NO_HEADROOM
    bytes.data -= t.size
    copy_header(bytes.data, d.header, t.own, t.size)
    return DATAPLANE_ENCAP_OK


cdef inline void write_outer(const TableDevice *d, dataplane_encap_push *info, const dataplane_encap_bytes *bytes) noexcept nogil:
    """The UDP header of kinds that have one, and the outer header's fields; everything behind them is there already."""
    if d.table.udp:
        udp_write(&d.device.udp, info, bytes.data, <uint32_t>(bytes.tail - bytes.data))
    else:
        info.ip_protocol = d.table.encap.ip_protocols[0]
    outer_push(&d.device.outer, info)


cdef inline int table_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef const TableDevice *d = <const TableDevice *>state
    cdef int i, v = write_template(d, info, bytes)
    if v != DATAPLANE_ENCAP_OK:
        return v
    for i in range(d.table.n_computed):
        v = compute(d, &d.table.computed[i], info, bytes.data, <uint32_t>(bytes.tail - bytes.data))
        if v != DATAPLANE_ENCAP_OK:
            return v
    write_outer(d, info, bytes)
    return DATAPLANE_ENCAP_OK


cdef inline int template_push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes) noexcept nogil:
    """Of kinds without computed fields, for which the loop over none costs a third more."""
    cdef const TableDevice *d = <const TableDevice *>state
    cdef int v = write_template(d, info, bytes)
    if v == DATAPLANE_ENCAP_OK:
        write_outer(d, info, bytes)
    return v


# ---- reading

cdef inline bint as_expected(const TableDevice *d, const uint8_t *header) noexcept nogil:
    """Are the bits that never change the device's?"""
    cdef const Check *c
    cdef uint32_t value
    cdef int i
    for i in range(d.n_checks):
        c = &d.checks[i]
        value = ld32(header + c.offset) if c.size == 4 else ld16(header + c.offset) if c.size == 2 else header[c.offset]
        if value & c.mask != c.want:
            return False
    return True


cdef inline int examine(const TableDevice *d, const Field *f, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    """Check one field and take over what it says: OK, NOT_MINE or a reason."""
    cdef int64_t n = bytes.tail - bytes.data, length
    if f.source == SOURCE_IDENTIFIER:
        info.id = field_get(f, bytes.data)
        return DATAPLANE_ENCAP_OK if info.id == d.id else DATAPLANE_ENCAP_NOT_MINE
    if f.source == SOURCE_PROTOCOL:
        info.inner_protocol = <uint16_t>protocol_from_field(d.table, field_get(f, bytes.data))
        return DATAPLANE_ENCAP_OK if info.inner_protocol else UNKNOWN_PROTOCOL
    if f.source == SOURCE_LENGTH:
        length = field_get(f, bytes.data) - f.plus + f.start
        if length < d.table.size or length > n:
            return BAD_LENGTH
        bytes.tail = bytes.data + length
        return DATAPLANE_ENCAP_OK
    if f.source == SOURCE_CHECKSUM and csum_bytes(bytes.data + f.start, <uint32_t>((d.table.size if f.header_only else n) - f.start)):
        return BAD_CHECKSUM
    return DATAPLANE_ENCAP_OK


cdef inline int by_version(const uint8_t *ip, int64_t n) noexcept nogil:
    """EtherType by the version that an IP packet itself says, 0: it is none."""
    if n < 1:
        return 0
    return ETHERTYPE_IPV4 if ip[0] >> 4 == 4 else ETHERTYPE_IPV6 if ip[0] >> 4 == 6 else 0


cdef inline int inner_read(const Table *t, dataplane_encap_pop *info, const dataplane_encap_bytes *bytes) noexcept nogil:
    """Name what stands at ``data`` where no field has, and see that its header is there: OK or a reason."""
    cdef int64_t n = bytes.tail - bytes.data, least = 0
    if t.encap.ethernet:
        info.inner_protocol = ETHERTYPE_TEB
        least = ETH_HLEN
    elif t.n_protocols < 0:
        info.inner_protocol = <uint16_t>by_version(bytes.data, n)
        if info.inner_protocol == 0:
            return UNKNOWN_PROTOCOL
    if info.inner_protocol == ETHERTYPE_IPV4:
        least = IPV4_HLEN
    elif info.inner_protocol == ETHERTYPE_IPV6:
        least = IPV6_HLEN
    return DATAPLANE_ENCAP_OK if n >= least else INNER_TRUNCATED


cdef inline int check_template(const TableDevice *d, const dataplane_encap_pop *info, const dataplane_encap_bytes *bytes) noexcept nogil:
    """OK or a reason."""
    if bytes.tail - bytes.data < d.table.size:
        return TRUNCATED
    if d.table.udp and udp_refused(&d.device.udp, info, bytes.data):
        return ZERO_CHECKSUM
    return DATAPLANE_ENCAP_OK if as_expected(d, bytes.data) else UNEXPECTED_HEADER


cdef inline int table_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    cdef const TableDevice *d = <const TableDevice *>state
    cdef int i, v = check_template(d, info, bytes)
    if v != DATAPLANE_ENCAP_OK:
        return v
    for i in range(d.table.n_computed):
        v = examine(d, &d.table.computed[i], info, bytes)
        if v != DATAPLANE_ENCAP_OK:
            return v
    bytes.data += d.table.size
    return inner_read(d.table, info, bytes)


cdef inline int template_pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes) noexcept nogil:
    """Of kinds without computed fields."""
    cdef const TableDevice *d = <const TableDevice *>state
    cdef int v = check_template(d, info, bytes)
    if v != DATAPLANE_ENCAP_OK:
        return v
    bytes.data += d.table.size
    return inner_read(d.table, info, bytes)


# ---- devices

cdef inline bint table_option(void *device, const dataplane_encap_option *o) noexcept nogil:
    """False: none of the kind's options, or a value out of range."""
    cdef TableDevice *d = <TableDevice *>device
    cdef const Field *f
    cdef int i
    for i in range(d.table.n_fields):
        f = &d.table.fields[i]
        if f.option == NULL or strcmp(f.option, o.key) != 0:
            continue
        if not option_in(o, f.option, 0, f.most):
            return False
        field_set(f, d.header, <uint32_t>o.number)
        if f.source == SOURCE_IDENTIFIER:
            d.id = o.number
        return True
    return udp_device_option(&d.device, o) if d.table.udp else outer_option(&d.device.outer, o)


cdef inline uint32_t big_endian(const uint8_t *at, int size) noexcept nogil:
    return ld32(at) if size == 4 else ld16(at) if size == 2 else at[0]


cdef inline void table_set_checks(TableDevice *d) noexcept nogil:
    """What pop compares, in words as large as possible, the parts of the header without fixed bits left out."""
    cdef int at = 0, size
    cdef uint32_t mask
    d.n_checks = 0
    while at < d.table.size:
        size = 4 if d.table.size - at >= 4 else 2 if d.table.size - at >= 2 else 1
        mask = big_endian(d.table.fixed + at, size)
        if mask:
            d.checks[d.n_checks] = Check(want=big_endian(d.header + at, size) & mask, mask=mask, offset=<uint16_t>at, size=<uint8_t>size)
            d.n_checks += 1
        at += size


cdef inline uint16_t table_overhead(const void *state, int family) noexcept nogil:
    return <uint16_t>((IPV4_HLEN if family == 4 else IPV6_HLEN) + (<const TableDevice *>state).table.size)


cdef inline uint16_t table_port(const void *state) noexcept nogil:
    cdef const TableDevice *d = <const TableDevice *>state
    return d.device.udp.ports.port if d.table.udp else 0


cdef inline int table_describe(const Table *t, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) noexcept nogil:
    """Name the fields of the header: the bytes it takes, -1 if it is broken off."""
    cdef const Field *f
    cdef int i
    if t.udp and udp_describe(data, size, field, context) < 0:
        return -1
    for i in range(t.n_fields):
        f = &t.fields[i]
        if f.offset + f.size > size:
            return -1
        field(context, t.encap.name, f.name, field_get(f, data), NULL, 0)
    return t.size if size >= t.size else -1
