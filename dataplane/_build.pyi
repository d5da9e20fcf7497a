"""Types of the compiled module that knows how it and its siblings were compiled (``ext/build_info.pyx``)."""

def compiler() -> str:
    """The compiler and its version."""

def flags() -> str:
    """What it was called with, but for include folders: Python's own flags, then ours, of which the last one counts."""
