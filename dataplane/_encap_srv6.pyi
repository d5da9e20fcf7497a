"""Segment routing over IPv6 around IP packets (RFC 8986), an encapsulation compiled against ``encap_abi.h``."""

capsule: object
"""The PyCapsule that ``dataplane._core.register_encap`` takes."""
