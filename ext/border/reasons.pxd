# The registered encapsulations, and the list of all drop reasons: the stages' own, then each encapsulation's.

from libc.string cimport strcmp
from ext.encap.abi cimport dataplane_encap, DATAPLANE_ENCAP_ABI
from ext.stages.run cimport reason_text
from ext.stages.tunnel cimport DP_ENCAPS_MAX, dp_encap_reason, dp_encaps, dp_n_encaps, encap_register
from ext.stages.verdict cimport DROPS_ENCAP, DROPS_END


cdef inline bint registry_add(const dataplane_encap *e) except -1:
    """False: it was there already. ValueError: wrong ABI, a name in use, or too many."""
    cdef int i, first = DROPS_ENCAP
    if e.abi != DATAPLANE_ENCAP_ABI:
        raise ValueError(f"the encapsulation speaks ABI {e.abi}, this core ABI {DATAPLANE_ENCAP_ABI}")
    for i in range(dp_n_encaps):
        if dp_encaps[i] == e:
            return False
        if strcmp(dp_encaps[i].name, e.name) == 0:
            raise ValueError(f"an encapsulation named {e.name.decode()!r} is registered already")
        first = dp_encap_reason[i] + dp_encaps[i].n_drop_reasons
    if dp_n_encaps == DP_ENCAPS_MAX or e.n_drop_reasons < 0 or first + e.n_drop_reasons > DROPS_END:
        raise ValueError("too many encapsulations, or too many drop reasons")
    encap_register(e, first)
    return True


cdef inline list registry_names():
    return [dp_encaps[i].name.decode() for i in range(dp_n_encaps)]


cdef inline list reason_places():
    """The core's number of each reason, in the order of reason_list()."""
    cdef int i, k
    places = [i for i in range(DROPS_ENCAP) if reason_text(i) != NULL]
    for i in range(dp_n_encaps):
        places.extend([dp_encap_reason[i] + k for k in range(dp_encaps[i].n_drop_reasons)])
    return places


cdef inline list reason_list(object DropReason):
    cdef int i, k
    cdef const dataplane_encap *e
    reasons = [DropReason(*(<bytes>reason_text(i)).decode().split("\t")) for i in range(DROPS_ENCAP) if reason_text(i) != NULL]
    for i in range(dp_n_encaps):
        e = dp_encaps[i]
        for k in range(e.n_drop_reasons):
            reasons.append(DropReason(f"{e.name.decode()}/{e.drop_reasons[k].name.decode()}", e.drop_reasons[k].sentence.decode(),
                                      e.drop_reasons[k].linux_name.decode()))
    return reasons
