"""A header of 8 bytes before an IP packet, compiled by Numba: 0x7a, 0, the EtherType of what is inside, a 32-bit tag; IP protocol 253."""

from dataplane.encap.numba_plugin import NOT_MINE, OK, NumbaEncapsulation, Number, content, grow, headroom, shrink

SIZE = 8
PROTOCOL = 253  # for experiments (RFC 3692)
NO_HEADROOM, TRUNCATED, BAD_MAGIC, UNKNOWN_PROTOCOL = 1, 2, 3, 4
REASONS = {
    "no_headroom": "No room for the tag before the packet",
    "truncated": "The packet ends inside the tag",
    "bad_magic": "The packet does not begin with 0x7a00",
    "unknown_protocol": "The tag announces neither IPv4 nor IPv6",
}


def push(state, info, packet):
    if headroom(packet) < SIZE:
        return NO_HEADROOM
    tag = state.tag if info.id < 0 else info.id
    header = grow(packet, SIZE)
    header[0], header[1] = 0x7A, 0
    header[2], header[3] = info.inner_protocol >> 8, info.inner_protocol & 0xFF
    for place in range(4):
        header[4 + place] = (tag >> (24 - 8 * place)) & 0xFF
    info.ip_protocol = PROTOCOL
    info.tos = info.inner_tos
    return OK


def pop(state, info, packet):
    header = content(packet)
    if len(header) < SIZE:
        return TRUNCATED
    if header[0] != 0x7A or header[1] != 0:
        return BAD_MAGIC
    tag = 0
    for place in range(4):
        tag = tag << 8 | header[4 + place]
    info.id = tag
    if tag != state.tag:
        return NOT_MINE
    info.inner_protocol = header[2] << 8 | header[3]
    if info.inner_protocol != 0x0800 and info.inner_protocol != 0x86DD:
        return UNKNOWN_PROTOCOL
    if len(shrink(packet, SIZE)) < 20:
        return TRUNCATED
    return OK


kind = NumbaEncapsulation(
    name="numba_tag",
    sentence="IP packets behind a tag, compiled by Numba",
    ip_protocols=(PROTOCOL,),
    header=SIZE,
    push=push,
    pop=pop,
    options={"tag": Number(0, 0, 0xFFFFFFFF, "The tag, which tells devices apart")},
    reasons=REASONS,
)
