"""Encapsulations: the registry that hands plug-ins to the core."""
