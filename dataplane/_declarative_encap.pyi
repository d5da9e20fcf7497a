"""Types of the compiled module that turns descriptions of encapsulations into tables for the core (``ext/declarative_encap.pyx``)."""

from dataplane.encap.declarative import Described

LIMITS: dict[str, int]
"""The most bytes of a ``header``, ``fields``, ``protocols`` and ``defaults`` that a description may have."""

def shared_options(udp: bool) -> list[str]:
    """Options of the devices of every kind: those about the outer IP header, and with ``udp`` those about the UDP header."""

def compiled(described: Described) -> object:
    """The PyCapsule that ``dataplane._core.register_encap`` takes. ValueError: more than 16 descriptions, or
    a default that is out of range."""
