"""ERSPAN types I, II and III (draft-foschiano-erspan), an encapsulation compiled against ``encap_abi.h``."""

capsule: object
"""The PyCapsule that ``dataplane._core.register_encap`` takes."""
