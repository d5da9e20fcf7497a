# Questions that one call of Python's asks and the core answers as a dictionary.

from libc.stdint cimport uint8_t
from libc.string cimport memset
from ext.border.dump cimport route_dict
from ext.devices.core cimport Core, Ns, ns_fib
from ext.fast.flows cimport FlowCache, cache_bytes
from ext.fast.megaflow cimport megaflows_bytes, megaflows_known
from ext.stages.route cimport route_source
from ext.stages.route_ipv6 cimport route_source6
from ext.tables.fib cimport FibResult, fib_lookup, fib_stored, RT_LOCAL


cdef inline dict route_answer(Core *c, Ns *n, bytes dst):
    """Through the packet path's table, by the rules of output routing."""
    cdef int alen = <int>len(dst)
    cdef FibResult res = fib_lookup(ns_fib(n, alen), dst, -1)
    cdef uint8_t addr[16]
    if res.route == NULL:
        return {"kind": "unreachable", "dev": -1, "via": None, "src": None, "mtu": 0, "origin": 0}
    row = route_dict(fib_stored(ns_fib(n, alen), dst, res.route), alen)
    memset(addr, 0, 16)
    if alen == 4 and res.error == 0 and row["src"] is None:
        if res.route.type == RT_LOCAL:
            row["src"] = dst
        elif route_source(c, n, res.route, addr):
            row["src"] = <bytes>(<char *>addr)[:4]
    elif alen == 16 and res.error == 0 and row["src"] is None and route_source6(c, n, res.route, <const uint8_t *>(<char *>dst), addr):
        row["src"] = <bytes>(<char *>addr)[:16]
    if row["mtu"] == 0 and res.route.dev >= 0:
        row["mtu"] = c.dev[res.route.dev].mtu
    return row


cdef inline dict cache_dict(const FlowCache *fc):
    """What the flow cache has done and holds; all 0 where there is none."""
    if fc == NULL:
        return dict.fromkeys(("routed", "hits", "shared", "abreast", "dealt", "wide", "misses", "others", "learnt", "full", "flushes",
                              "flows", "programs", "megaflows", "bytes"), 0)
    return {"routed": fc.routed.packets, "hits": fc.hits, "shared": fc.shared, "abreast": fc.abreast, "dealt": fc.dealt, "wide": fc.wide,
            "misses": fc.misses, "others": fc.others, "learnt": fc.learnt, "full": fc.full, "flushes": fc.flushes, "flows": fc.used,
            "programs": fc.n_programs, "megaflows": megaflows_known(fc), "bytes": cache_bytes(fc) + megaflows_bytes(fc)}
