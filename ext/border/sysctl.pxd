# Names of sysctls and where their values live.

from ext.border.devices cimport device_find
from ext.border.tables cimport forwarding_changed6
from ext.devices.core cimport *
from libc.stdint cimport uint8_t, int64_t
from ext.tables.conntrack cimport ct_settings_changed
from ext.tables.ct_settings cimport CtSettings


cdef inline dict conf_names():
    """``net.ipv4.conf.DEV.NAME`` and ``net.ipv4.neigh.DEV.NAME`` -> place in the device's values."""
    return {
        "conf.forwarding": CONF_FORWARDING, "conf.rp_filter": CONF_RP_FILTER, "conf.route_localnet": CONF_ROUTE_LOCALNET,
        "conf.proxy_arp": CONF_PROXY_ARP, "conf.send_redirects": CONF_SEND_REDIRECTS,
        "conf.shared_media": CONF_SHARED_MEDIA,
        "conf.accept_local": CONF_ACCEPT_LOCAL,
        "conf.arp_ignore": CONF_ARP_IGNORE, "conf.arp_announce": CONF_ARP_ANNOUNCE, "conf.arp_accept": CONF_ARP_ACCEPT,
        "conf.drop_unicast_in_l2_multicast": CONF_DROP_UNICAST_IN_L2_MULTICAST,
        "conf.drop_gratuitous_arp": CONF_DROP_GRATUITOUS_ARP, "conf.bc_forwarding": CONF_BC_FORWARDING,
        "conf.log_martians": CONF_LOG_MARTIANS,  # goes to the kernel's log alone
        "neigh.retrans_time_ms": CONF_RETRANS_TIME_MS, "neigh.base_reachable_time_ms": CONF_BASE_REACHABLE_TIME_MS,
        "neigh.mcast_solicit": CONF_MCAST_SOLICIT, "neigh.ucast_solicit": CONF_UCAST_SOLICIT,
        "neigh.delay_first_probe_time": CONF_DELAY_FIRST_PROBE_TIME, "neigh.proxy_delay": CONF_PROXY_DELAY,
        "neigh.locktime": CONF_LOCKTIME,
    }


cdef inline dict conf6_names():
    """``net.ipv6.conf.DEV.NAME`` -> place in the device's values. What routers and hosts here never do for themselves (duplicate address
    detection, router solicitation, configuration by advertisements) can be set and read, and changes nothing."""
    return {
        "disable_ipv6": CONF_DISABLE_IPV6, "forwarding": CONF6_FORWARDING, "proxy_ndp": CONF6_PROXY_NDP, "hop_limit": CONF6_HOP_LIMIT,
        "drop_unicast_in_l2_multicast": CONF6_DROP_UNICAST_IN_L2_MULTICAST, "force_tllao": CONF6_FORCE_TLLAO, "accept_ra": CONF6_ACCEPT_RA,
        "accept_redirects": CONF6_ACCEPT_REDIRECTS, "accept_dad": CONF6_ACCEPT_DAD, "dad_transmits": CONF6_DAD_TRANSMITS,
        "router_solicitations": CONF6_ROUTER_SOLICITATIONS, "accept_source_route": CONF6_ACCEPT_SOURCE_ROUTE,
    }


cdef inline dict sys_names():
    return {
        "net.ipv6.icmp.ratelimit": SYS6_ICMP_RATELIMIT, "net.ipv6.icmp.echo_ignore_all": SYS6_ICMP_ECHO_IGNORE_ALL,
        "net.ipv6.icmp.echo_ignore_multicast": SYS6_ICMP_ECHO_IGNORE_MULTICAST,
        "net.ipv6.icmp.echo_ignore_anycast": SYS6_ICMP_ECHO_IGNORE_ANYCAST,
        "net.ipv6.anycast_src_echo_reply": SYS6_ANYCAST_SRC_ECHO_REPLY, "net.ipv6.ip6frag_time": SYS6_FRAG_TIME,
        "net.netfilter.nf_conntrack_frag6_timeout": SYS6_NF_FRAG_TIMEOUT, "net.ipv6.route.mtu_expires": SYS6_MTU_EXPIRES,
        "net.ipv6.auto_flowlabels": SYS6_AUTO_FLOWLABELS,
        "net.ipv4.ip_default_ttl": SYS_IP_DEFAULT_TTL, "net.ipv4.icmp_ratelimit": SYS_ICMP_RATELIMIT,
        "net.ipv4.icmp_ratemask": SYS_ICMP_RATEMASK, "net.ipv4.icmp_echo_ignore_all": SYS_ICMP_ECHO_IGNORE_ALL,
        "net.ipv4.icmp_echo_ignore_broadcasts": SYS_ICMP_ECHO_IGNORE_BROADCASTS,
        "net.ipv4.icmp_errors_use_inbound_ifaddr": SYS_ICMP_ERRORS_USE_INBOUND_IFADDR,
        "net.ipv4.icmp_msgs_per_sec": SYS_ICMP_MSGS_PER_SEC, "net.ipv4.icmp_msgs_burst": SYS_ICMP_MSGS_BURST,
        "net.ipv4.ipfrag_time": SYS_IPFRAG_TIME, "net.ipv4.route.min_pmtu": SYS_MIN_PMTU, "net.ipv4.route.mtu_expires": SYS_MTU_EXPIRES,
        "net.bridge.bridge-nf-call-iptables": SYS_NF_CALL_IPTABLES, "net.bridge.bridge-nf-call-ip6tables": SYS_NF_CALL_IP6TABLES,
        "net.bridge.bridge-nf-call-arptables": SYS_NF_CALL_ARPTABLES,
        "net.netfilter.nf_conntrack_max": SYS_NF_CONNTRACK_MAX, "net.netfilter.nf_conntrack_checksum": SYS_NF_CHECKSUM,
    }


cdef inline dict conf_defaults():
    """Linux' defaults where they are not zero (net/ipv4/devinet.c: ipv4_devconf_dflt, net/ipv4/arp.c: arp_tbl, net/ipv6/addrconf.c: ipv6_devconf_dflt,
    net/ipv6/ndisc.c: nd_tbl)."""
    return {
        CONF_SEND_REDIRECTS: 1, CONF_SHARED_MEDIA: 1,
        CONF_RETRANS_TIME_MS: 1000, CONF_BASE_REACHABLE_TIME_MS: 30000, CONF_MCAST_SOLICIT: 3, CONF_UCAST_SOLICIT: 3,
        CONF_DELAY_FIRST_PROBE_TIME: 5, CONF_PROXY_DELAY: 80, CONF_LOCKTIME: 100,
        CONF_RETRANS_TIME_MS + CONF6_NEIGH: 1000, CONF_BASE_REACHABLE_TIME_MS + CONF6_NEIGH: 30000, CONF_MCAST_SOLICIT + CONF6_NEIGH: 3,
        CONF_UCAST_SOLICIT + CONF6_NEIGH: 3, CONF_DELAY_FIRST_PROBE_TIME + CONF6_NEIGH: 5, CONF_PROXY_DELAY + CONF6_NEIGH: 80,
        CONF6_HOP_LIMIT: 64, CONF6_ACCEPT_RA: 1, CONF6_ACCEPT_REDIRECTS: 1, CONF6_ACCEPT_DAD: 1, CONF6_DAD_TRANSMITS: 1,
        CONF6_ROUTER_SOLICITATIONS: -1,
    }


cdef inline dict sys_defaults():
    return {
        SYS_IP_DEFAULT_TTL: 64, SYS_ICMP_RATELIMIT: 1000, SYS_ICMP_RATEMASK: 6168, SYS_ICMP_ECHO_IGNORE_BROADCASTS: 1,
        SYS_ICMP_MSGS_PER_SEC: 10000, SYS_ICMP_MSGS_BURST: 10000, SYS_IPFRAG_TIME: 30, SYS_NF_CALL_IPTABLES: 1, SYS_NF_CALL_IP6TABLES: 1,
        SYS_NF_CALL_ARPTABLES: 1, SYS_NF_CONNTRACK_MAX: 262144, SYS_NF_CHECKSUM: 1, SYS_MIN_PMTU: 552, SYS_MTU_EXPIRES: 600,
        SYS6_ICMP_RATELIMIT: 1000, SYS6_FRAG_TIME: 60, SYS6_NF_FRAG_TIMEOUT: 60, SYS6_MTU_EXPIRES: 600, SYS6_AUTO_FLOWLABELS: 1,
    }


cdef inline int64_t *ct_time(CtSettings *s, str name):
    """Where a timeout of net.netfilter.nf_conntrack_NAME lives (there in seconds, here in ns); NULL: not one."""
    states = {"syn_sent": 1, "syn_recv": 2, "established": 3, "fin_wait": 4, "close_wait": 5, "last_ack": 6, "time_wait": 7, "close": 8}
    if name.startswith("tcp_timeout_") and name[12:] in states:
        return &s.tcp_timeout[<int>states[name[12:]]]
    if name == "tcp_timeout_max_retrans":
        return &s.tcp_timeout_max_retrans
    if name == "tcp_timeout_unacknowledged":
        return &s.tcp_timeout_unacknowledged
    if name == "udp_timeout":
        return &s.udp_timeout
    if name == "udp_timeout_stream":
        return &s.udp_timeout_stream
    if name == "icmp_timeout":
        return &s.icmp_timeout
    if name == "icmpv6_timeout":
        return &s.icmpv6_timeout
    if name == "generic_timeout":
        return &s.generic_timeout
    return NULL


cdef inline uint8_t *ct_flag(CtSettings *s, str name):
    """Where a switch or small number of net.netfilter.nf_conntrack_NAME lives; NULL: not one."""
    if name == "tcp_be_liberal":
        return &s.tcp_be_liberal
    if name == "tcp_loose":
        return &s.tcp_loose
    if name == "tcp_max_retrans":
        return &s.tcp_max_retrans
    if name == "tcp_ignore_invalid_rst":
        return &s.tcp_ignore_invalid_rst
    return NULL


cdef inline tuple conf_place(str name):
    """(device name, place) of net.ipv4.{conf,neigh}.DEV.NAME and net.ipv6.{conf,neigh}.DEV.NAME, or None."""
    parts = name.split(".")
    if name == "net.ipv4.ip_forward":
        return "all", CONF_FORWARDING
    if len(parts) != 5 or parts[0] != "net":
        return None
    place = None
    if parts[1] == "ipv4":
        place = conf_names().get(f"{parts[2]}.{parts[4]}")
    elif parts[1:3] == ["ipv6", "conf"]:
        place = conf6_names().get(parts[4])
    elif parts[1:3] == ["ipv6", "neigh"] and f"neigh.{parts[4]}" in conf_names():
        place = <int>conf_names()[f"neigh.{parts[4]}"] + CONF6_NEIGH
    return None if place is None else (parts[3].replace("/", "."), place)


cdef inline int conf_write(Core *c, Ns *ns, str dev, int place, int value) except -1:
    """``all`` counts beside each device's own; ``default`` is what devices have that were not set by name."""
    cdef int i, d
    if dev == "all":
        ns.conf_all[place] = value
        if place not in (CONF_FORWARDING, CONF_DISABLE_IPV6, CONF6_FORWARDING):
            return 0
    if dev == "all" or dev == "default":
        ns.conf_default[place] = value
        for i in range(ns.n_devs):
            if dev == "all" or not c.dev[ns.devs[i]].conf_set[place]:
                device_conf(c, ns, c.dev[ns.devs[i]], place, value)
        return 0
    d = device_find(c, ns, dev)
    if d < 0:
        raise KeyError(dev)
    device_conf(c, ns, c.dev[d], place, value)
    c.dev[d].conf_set[place] = True
    return 0


cdef inline int device_conf(Core *c, Ns *ns, Dev *d, int place, int value) except -1:
    d.conf[place] = value
    return forwarding_changed6(ns, d) if place == CONF6_FORWARDING else 0


cdef inline int sysctl_write(Core *c, Ns *ns, str name, int value) except -1:
    """KeyError: no sysctl of this name is known."""
    cdef int64_t *time = NULL
    cdef uint8_t *flag = NULL
    where = conf_place(name)
    if where is not None:
        return conf_write(c, ns, where[0], where[1], value)
    if name in sys_names():
        ns.sys[<int>sys_names()[name]] = value
        ns.ct.max = ns.sys[SYS_NF_CONNTRACK_MAX]
        return 0
    if name.startswith("net.netfilter.nf_conntrack_"):
        time = ct_time(&ns.ct.set, name[27:])
        flag = ct_flag(&ns.ct.set, name[27:])
    if time != NULL:
        time[0] = <int64_t>value * 1000000000
        ct_settings_changed(&ns.ct)
    elif flag != NULL:
        flag[0] = value
    else:
        raise KeyError(name)
    return 0


cdef inline object sysctl_read(Core *c, Ns *ns, str name):
    cdef int d
    where = conf_place(name)
    if where is not None:
        if where[0] in ("all", "default"):
            return ns.conf_all[<int>where[1]] if where[0] == "all" else ns.conf_default[<int>where[1]]
        d = device_find(c, ns, where[0])
        if d < 0:
            raise KeyError(name)
        return c.dev[d].conf[<int>where[1]]
    if name in sys_names():
        return ns.sys[<int>sys_names()[name]]
    if name.startswith("net.netfilter.nf_conntrack_"):
        if ct_time(&ns.ct.set, name[27:]) != NULL:
            return ct_time(&ns.ct.set, name[27:])[0] // 1000000000
        if ct_flag(&ns.ct.set, name[27:]) != NULL:
            return ct_flag(&ns.ct.set, name[27:])[0]
    raise KeyError(name)


cdef inline int namespace_defaults(Ns *ns) except -1:
    """Linux' sysctls, and no ICMP sent so far."""
    for key, value in conf_defaults().items():
        ns.conf_default[<int>key] = value
        ns.conf_all[<int>key] = value
    for key, value in sys_defaults().items():
        ns.sys[<int>key] = value
    ns.icmp_last = -1000000000
    return 0
