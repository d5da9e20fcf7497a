# The registered encapsulations, and the list of all drop reasons: the stages' own, then each encapsulation's.

from cpython.pycapsule cimport PyCapsule_CheckExact, PyCapsule_GetName, PyCapsule_GetPointer
from libc.string cimport strcmp
from ext.encap.abi cimport dataplane_encap, DATAPLANE_ENCAP_ABI, DATAPLANE_ENCAP_CAPSULE
from ext.stages.run cimport reason_text
from ext.stages.tunnel cimport DP_ENCAPS_MAX, dp_encap_reason, dp_encaps, dp_n_encaps, encap_register
from ext.stages.verdict cimport DROPS_ENCAP, DROPS_END

cdef enum:
    NAME_MAX = 32


cdef inline bint registry_add(const dataplane_encap *e) except -1:
    """False: it was there already. ValueError: wrong ABI, a name in use, or too many."""
    cdef int i, first = DROPS_ENCAP
    if e.abi != DATAPLANE_ENCAP_ABI:
        raise ValueError(f"the encapsulation speaks ABI {e.abi}, this core ABI {DATAPLANE_ENCAP_ABI}")
    registry_complete(e)
    for i in range(dp_n_encaps):
        if dp_encaps[i] == e:
            return False
        if strcmp(dp_encaps[i].name, e.name) == 0:
            raise ValueError(f"an encapsulation named {e.name.decode()!r} is registered already")
        first = dp_encap_reason[i] + dp_encaps[i].n_drop_reasons
    if dp_n_encaps == DP_ENCAPS_MAX or first + e.n_drop_reasons > DROPS_END:
        raise ValueError(f"no more than {DP_ENCAPS_MAX} encapsulations, and {DROPS_END - DROPS_ENCAP} drop reasons of theirs, can be known")
    encap_register(e, first)
    return True


cdef inline const dataplane_encap *registry_open(object capsule) except NULL:
    """ValueError: not a capsule of this ABI."""
    cdef const char *name
    wanted = (<bytes>DATAPLANE_ENCAP_CAPSULE).decode()
    if not PyCapsule_CheckExact(capsule):
        raise ValueError(f"a {type(capsule).__name__} is no PyCapsule named {wanted!r}")
    name = PyCapsule_GetName(capsule)
    if name == NULL or strcmp(name, DATAPLANE_ENCAP_CAPSULE) != 0:
        given = name.decode(errors="replace") if name != NULL else ""
        raise ValueError(f"the capsule is named {given!r}, not {wanted!r}: it was made for another ABI")
    return <const dataplane_encap *>PyCapsule_GetPointer(capsule, name)


cdef inline int registry_complete(const dataplane_encap *e) except -1:
    """ValueError: a part is missing that is not optional."""
    cdef int i
    if e.name == NULL or e.name[0] == 0 or e.name.decode(errors="replace") in ("lo", "veth", "bridge"):
        raise ValueError("the encapsulation has no name, or that of another kind of device")
    name = e.name.decode(errors="replace")
    if not name.isascii() or not name.isidentifier() or not name.islower() or len(name) > NAME_MAX:
        raise ValueError(f"encapsulation {name!r}: its name is not lower snake case of at most {NAME_MAX} characters")
    if e.sentence == NULL or e.ip_protocols[0] == 0:
        raise ValueError(f"encapsulation {name!r}: sentence or ip_protocols is not set")
    if (e.create == NULL or e.destroy == NULL or e.overhead == NULL or e.port == NULL or e.push == NULL or e.pop == NULL):
        raise ValueError(f"encapsulation {name!r}: one of create, destroy, overhead, port, push and pop is not set")
    if e.n_options < 0 or (e.n_options and e.options == NULL) or e.n_drop_reasons < 0 or (e.n_drop_reasons and e.drop_reasons == NULL):
        raise ValueError(f"encapsulation {name!r}: the count of options or drop reasons is wrong")
    for i in range(e.n_options):
        if e.options[i].key == NULL or e.options[i].sentence == NULL or e.options[i].default_value == NULL:
            raise ValueError(f"encapsulation {name!r}: option {i + 1} lacks its key, sentence or default")
    for i in range(e.n_drop_reasons):
        if e.drop_reasons[i].name == NULL or e.drop_reasons[i].sentence == NULL or e.drop_reasons[i].linux_name == NULL:
            raise ValueError(f"encapsulation {name!r}: drop reason {i + 1} lacks its name, sentence or Linux' name")
    registry_texts(e)
    return 0


cdef inline int registry_texts(const dataplane_encap *e) except -1:
    """ValueError: a text that people read is not UTF-8."""
    cdef int i
    texts = [<bytes>e.sentence]
    for i in range(e.n_options):
        texts += [<bytes>e.options[i].key, <bytes>e.options[i].sentence, <bytes>e.options[i].default_value]
    for i in range(e.n_drop_reasons):
        texts += [<bytes>e.drop_reasons[i].name, <bytes>e.drop_reasons[i].sentence, <bytes>e.drop_reasons[i].linux_name]
    for text in texts:
        if "\ufffd" in text.decode(errors="replace"):
            raise ValueError(f"encapsulation {e.name.decode()!r}: {text!r} is not UTF-8")
    return 0


cdef inline const dataplane_encap *registry_find(str name) except NULL:
    """ValueError: not registered."""
    cdef int i
    for i in range(dp_n_encaps):
        if dp_encaps[i].name.decode() == name:
            return dp_encaps[i]
    raise ValueError(f"no encapsulation is registered as {name!r}")


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
