"""Reads a cluster from what its users have: Kubernetes manifests, kubectl output, and our own ``kind: Cluster``."""

from dataplane.k8s.derive import derive_mac
from dataplane.k8s.loader import load, load_objects, load_text
from dataplane.k8s.objects import Manifests, Origin

__all__ = ["Manifests", "Origin", "derive_mac", "load", "load_objects", "load_text"]
