"""GRE around IP packets (RFC 2784, RFC 2890), an encapsulation compiled against ``encap_abi.h``."""

capsule: object
"""The PyCapsule that ``dataplane._core.register_encap`` takes."""
