"""Slow, obvious Python twins of the compiled structures, for differential tests."""
