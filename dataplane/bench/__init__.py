"""Benchmarks as a product: rows by name, what they measured as a table, JSON, picture or comparison, and peers beside them."""
