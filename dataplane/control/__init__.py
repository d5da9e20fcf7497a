"""Turns Kubernetes objects into the tables of the core: runs once per change, never per packet."""
