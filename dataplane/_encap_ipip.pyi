"""IPv4 and IPv6 packets right in IPv4 or IPv6 (RFC 2003, RFC 2473, RFC 4213), an encapsulation compiled against ``encap_abi.h``."""

capsule: object
"""The PyCapsule that ``dataplane._core.register_encap`` takes."""
