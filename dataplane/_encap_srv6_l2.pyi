"""Segment routing over IPv6 around Ethernet frames (RFC 8986), an encapsulation compiled against ``encap_abi.h``."""

capsule: object
"""The PyCapsule that ``dataplane._core.register_encap`` takes."""
