"""The one place that holds the version; ``pyproject.toml`` and ``dataplane --version`` read it."""

__version__ = "0.1.0"
