"""The real Linux kernel as the oracle: the same cluster in network namespaces, the same frames, compared."""
