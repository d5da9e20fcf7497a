# What tables hold, as plain Python dictionaries.

from ext.devices.core cimport *
from ext.tables.ct_entry cimport Ct, Tuple, ct_family, ct_tuple
from ext.tables.ct_sctp cimport ct_sctp_state_name
from ext.tables.ct_settings cimport CTS_ASSURED, CTS_SEEN_REPLY
from ext.tables.ct_tcp cimport ct_tcp_state_name
from ext.tables.fdb cimport FdbEntry, FDB_LOCAL, FDB_STATIC
from ext.tables.fib cimport Fib, Route
from ext.tables.htab cimport htab_step, HNode
from ext.tables.neighbour cimport (Neigh, NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_FAILED, NUD_NOARP,
                                   NUD_PERMANENT)


cdef inline dict tuple_dict(const Tuple *t):
    cdef int alen = 4 if t.family == 4 else 16
    d = {"src": <bytes>(<char *>t.src)[:alen], "dst": <bytes>(<char *>t.dst)[:alen]}
    if t.proto == 1 or t.proto == 58:
        d.update(type=t.dport >> 8, code=t.dport & 255, id=t.sport)
    elif t.proto == 47:
        d.update(srckey=t.sport, dstkey=t.dport)
    elif t.proto in (6, 17, 33, 132, 136):
        d.update(sport=t.sport, dport=t.dport)
    return d


cdef inline dict ct_dict(const Ct *ct, long long now):
    cdef Tuple orig = ct_tuple(ct, 0), reply = ct_tuple(ct, 1)
    state = None
    if ct.number == 6:
        state = ct_tcp_state_name(ct.proto.tcp.state).decode()
    elif ct.number == 132:
        state = ct_sctp_state_name(ct.proto.sctp.state).decode()
    return {"family": ct_family(ct), "proto": ct.number, "state": state, "assured": bool(ct.status & CTS_ASSURED),
            "seen_reply": bool(ct.status & CTS_SEEN_REPLY), "timeout": ct.expires - now, "orig": tuple_dict(&orig),
            "reply": tuple_dict(&reply), "mark": 0, "zone": 0}  # nothing here marks connections or puts them into zones


cdef inline str route_kind(int type):
    return {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}[type]


cdef inline dict route_dict(const Route *r, int alen):
    return {"prefix": <bytes>(<char *>r.prefix)[:alen], "prefix_len": r.plen, "kind": route_kind(r.type), "dev": r.dev,
            "via": <bytes>(<char *>r.gw)[:alen] if r.has_gw else None, "src": <bytes>(<char *>r.src)[:alen] if r.has_src else None,
            "metric": r.metric, "mtu": r.mtu, "mtu_lock": bool(r.mtu_lock), "scope": r.scope, "onlink": bool(r.onlink), "table": "local" if r.local_table else "main",
            "origin": r.origin, "dead": bool(r.dead)}


cdef inline list fib_list(const Fib *f, int alen):
    """By table (main first, as ``ip route`` shows it), prefix, metric and age."""
    rows = [(f.route[i].local_table, <bytes>(<char *>f.route[i].prefix)[:alen], f.route[i].plen, f.route[i].metric, f.route[i].order, i)
            for i in range(f.n) if f.route[i].type]
    return [route_dict(&f.route[<int>row[5]], alen) for row in sorted(rows)]


cdef inline str neigh_state(int state):
    return {0: "none", NUD_INCOMPLETE: "incomplete", NUD_REACHABLE: "reachable", NUD_STALE: "stale", NUD_DELAY: "delay", NUD_PROBE: "probe",
            NUD_FAILED: "failed", NUD_NOARP: "noarp", NUD_PERMANENT: "permanent"}.get(state, "none")


cdef inline list neigh_list(const Dev *d):
    cdef HNode *node = htab_step(&d.neigh.tab, NULL)
    cdef Neigh *n
    rows = []
    while node != NULL:
        n = <Neigh *>node
        known = n.state & (NUD_INCOMPLETE | NUD_FAILED) == 0 and n.state
        rows.append({"dev": d.id, "address": <bytes>(<char *>n.addr)[:n.alen], "mac": <bytes>(<char *>n.mac)[:6] if known else None,
                     "state": neigh_state(n.state), "origin": n.origin})
        node = htab_step(&d.neigh.tab, node)
    return sorted(rows, key=lambda row: (len(row["address"]), row["address"]))


cdef inline list fdb_list(const Dev *d):
    cdef HNode *node = htab_step(&d.fdb.tab, NULL)
    cdef FdbEntry *e
    rows = []
    while node != NULL:
        e = <FdbEntry *>node
        rows.append({"dev": d.id if d.kind == DEV_TUNNEL or e.port < 0 else e.port, "master": d.id if d.kind == DEV_BRIDGE else -1,
                     "mac": <bytes>(<char *>e.mac)[:6], "local": bool(e.flags & FDB_LOCAL), "static": bool(e.flags & FDB_STATIC),
                     "dst": <bytes>(<char *>e.dst)[:4 if e.dst_family == 4 else 16] if e.dst_family else None, "origin": e.origin})
        node = htab_step(&d.fdb.tab, node)
    return sorted(rows, key=lambda row: row["mac"])


cdef inline dict overhead_dict(const Dev *d):
    """By the outer packet's IP version; nothing for a device that is no tunnel."""
    return {family: d.encap.overhead(d.encap_state, family) for family in (4, 6)} if d.kind == DEV_TUNNEL else {}


cdef inline dict dev_dict(const Dev *d):
    kind = {DEV_LO: "lo", DEV_VETH: "veth", DEV_BRIDGE: "bridge"}.get(d.kind)
    if kind is None:
        kind = d.encap.name.decode()
    return {"id": d.id, "ns": d.ns, "name": (<bytes>d.name).decode(), "kind": kind, "mac": <bytes>(<char *>d.mac)[:6], "mtu": d.mtu,
            "up": bool(d.up), "ethernet": bool(carries_frames(d)), "peer": d.peer, "latency": d.latency, "master": d.master, "hairpin": bool(d.hairpin), "learning": bool(d.learning),
            "overhead": overhead_dict(d), "align": d.encap.align if d.kind == DEV_TUNNEL else 0,
            "addresses": [{"address": <bytes>(<char *>d.addr[i].addr)[:4 if d.addr[i].family == 4 else 16], "prefix_len": d.addr[i].plen,
                           "broadcast": <bytes>(<char *>d.addr[i].brd)[:4] if d.addr[i].has_brd else None, "origin": d.addr[i].origin}
                          for i in range(d.n_addr)]}
