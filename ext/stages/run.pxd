# The run loop: carries a packet from stage to stage until it is gone, and counts what is dropped on the way.

from ext.devices.core cimport Core
from ext.stages.arp cimport stage_arp, arp_reason
from ext.stages.bridge cimport (stage_bridge_in, stage_bridge_forward, stage_bridge_up, stage_bridge_port, stage_bridge_push,
                                stage_bridge_xmit, bridge_reason)
from ext.stages.bridge_netfilter cimport bridge_netfilter_reason
from ext.stages.conntrack cimport conntrack_reason
from ext.stages.defragment cimport defragment_reason
from ext.stages.extension_headers cimport extension_reason
from ext.stages.fault cimport fault_reason
from ext.stages.forward cimport stage_forward, forward_reason
from ext.stages.forward_ipv6 cimport stage_ipv6_forward, forward_ipv6_reason
from ext.stages.fragment_ipv6 cimport fragment_ipv6_reason
from ext.stages.local cimport stage_local, stage_transport, local_reason
from ext.stages.local_ipv6 cimport stage_ipv6_local, stage_ipv6_transport
from ext.stages.nat cimport nat_reason
from ext.stages.neighbour cimport stage_neighbour, neighbour_reason
from ext.stages.neighbour_discovery cimport stage_proxied_solicitation, nd_reason
from ext.stages.netfilter cimport rules_reason
from ext.stages.output cimport stage_local_out, stage_output, stage_fragment, output_reason
from ext.stages.output_ipv6 cimport stage_ipv6_local_out, stage_ipv6_output, stage_ipv6_fragment
from ext.stages.parse cimport stage_ip_receive, stage_ip_route, parse_reason
from ext.stages.parse_ipv6 cimport stage_ipv6_receive, stage_ipv6_route, parse_ipv6_reason
from ext.stages.receive cimport stage_receive, receive_reason
from ext.stages.route cimport route_reason
from ext.stages.transmit cimport stage_transmit, transmit_reason
from ext.stages.tunnel cimport stage_tunnel_out, tunnel_reason
from ext.stages.verdict cimport *
from ext.wire.ether cimport ETHERTYPE_IPV6
from ext.wire.packet cimport Pkt


cdef enum:
    LOWER_STAGES = (1 << ST_RECEIVE | 1 << ST_BRIDGE_IN | 1 << ST_BRIDGE_FORWARD | 1 << ST_BRIDGE_UP | 1 << ST_BRIDGE_PORT
                    | 1 << ST_BRIDGE_XMIT | 1 << ST_ARP | 1 << ST_TRANSMIT | 1 << ST_TUNNEL_OUT | 1 << ST_BRIDGE_PUSH)  # bits by stage


cdef inline int run_lower(Core *c, Pkt *p, int stage) noexcept nogil:
    """Stages of frames."""
    if stage == ST_RECEIVE:
        return stage_receive(c, p)
    elif stage == ST_BRIDGE_IN:
        return stage_bridge_in(c, p)
    elif stage == ST_BRIDGE_FORWARD:
        return stage_bridge_forward(c, p)
    elif stage == ST_BRIDGE_UP:
        return stage_bridge_up(c, p)
    elif stage == ST_BRIDGE_PORT:
        return stage_bridge_port(c, p)
    elif stage == ST_BRIDGE_XMIT:
        return stage_bridge_xmit(c, p)
    elif stage == ST_BRIDGE_PUSH:
        return stage_bridge_push(c, p)
    elif stage == ST_ARP:
        return stage_arp(c, p)
    elif stage == ST_TRANSMIT:
        return stage_transmit(c, p)
    return stage_tunnel_out(c, p)


cdef inline int run_ipv6(Core *c, Pkt *p, int stage) noexcept nogil:
    """Stages of IPv6 packets."""
    if stage == ST_IP_RECEIVE:
        return stage_ipv6_receive(c, p)
    elif stage == ST_IP_ROUTE:
        return stage_ipv6_route(c, p)
    elif stage == ST_LOCAL:
        return stage_ipv6_local(c, p)
    elif stage == ST_TRANSPORT:
        return stage_ipv6_transport(c, p)
    elif stage == ST_FORWARD:
        return stage_ipv6_forward(c, p)
    elif stage == ST_LOCAL_OUT:
        return stage_ipv6_local_out(c, p)
    elif stage == ST_OUTPUT:
        return stage_ipv6_output(c, p)
    elif stage == ST_FRAGMENT:
        return stage_ipv6_fragment(c, p)
    elif stage == ST_PROXIED_SOLICITATION:
        return stage_proxied_solicitation(c, p)
    return stage_neighbour(c, p)


cdef inline int run_upper(Core *c, Pkt *p, int stage) noexcept nogil:
    """Stages of packets."""
    if p.protocol == ETHERTYPE_IPV6:
        return run_ipv6(c, p, stage)
    if stage == ST_IP_RECEIVE:
        return stage_ip_receive(c, p)
    elif stage == ST_IP_ROUTE:
        return stage_ip_route(c, p)
    elif stage == ST_LOCAL:
        return stage_local(c, p)
    elif stage == ST_TRANSPORT:
        return stage_transport(c, p)
    elif stage == ST_FORWARD:
        return stage_forward(c, p)
    elif stage == ST_LOCAL_OUT:
        return stage_local_out(c, p)
    elif stage == ST_OUTPUT:
        return stage_output(c, p)
    elif stage == ST_FRAGMENT:
        return stage_fragment(c, p)
    return stage_neighbour(c, p)


cdef inline bint is_lower(int stage) noexcept nogil:
    return LOWER_STAGES >> stage & 1


cdef inline const char *reason_text(int r) noexcept nogil:
    """``name<tab>sentence<tab>Linux' name`` of a drop reason of the stages; NULL: there is no such reason."""
    cdef const char *t = receive_reason(r)
    if t == NULL:
        t = bridge_reason(r)
    if t == NULL:
        t = bridge_netfilter_reason(r)
    if t == NULL:
        t = arp_reason(r)
    if t == NULL:
        t = parse_reason(r)
    if t == NULL:
        t = conntrack_reason(r)
    if t == NULL:
        t = nat_reason(r)
    if t == NULL:
        t = rules_reason(r)
    if t == NULL:
        t = route_reason(r)
    if t == NULL:
        t = forward_reason(r)
    if t == NULL:
        t = local_reason(r)
    if t == NULL:
        t = output_reason(r)
    if t == NULL:
        t = neighbour_reason(r)
    if t == NULL:
        t = transmit_reason(r)
    if t == NULL:
        t = tunnel_reason(r)
    if t == NULL:
        t = defragment_reason(r)
    if t == NULL:
        t = fault_reason(r)
    return t if t != NULL else reason_text_ipv6(r)


cdef inline const char *reason_text_ipv6(int r) noexcept nogil:
    """Those of the stages that are IPv6's own."""
    cdef const char *t = parse_ipv6_reason(r)
    if t == NULL:
        t = extension_reason(r)
    if t == NULL:
        t = forward_ipv6_reason(r)
    if t == NULL:
        t = fragment_ipv6_reason(r)
    if t == NULL:
        t = nd_reason(r)
    return t
