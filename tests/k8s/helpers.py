"""Manifests that the loader's tests build on."""

from __future__ import annotations

from dataplane import k8s

NODES = """
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.1.10}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 192.168.1.11}]}
"""


def pod(name: str, node: str = "n1", *, spec: str = "", status: str = "", metadata: str = "") -> str:
    """A Pod document; the extra texts are members of flow mappings."""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web}}, {metadata}}}
spec: {{nodeName: {node}, containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}], {spec}}}
status: {{{status}}}
"""


def service(name: str, spec: str = "selector: {app: web}, ports: [{port: 80, targetPort: http}]", metadata: str = "") -> str:
    return f"\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, {metadata}}}\nspec: {{{spec}}}\n"


def cluster(spec: str) -> str:
    return f"\napiVersion: dataplane/v1alpha1\nkind: Cluster\nmetadata: {{name: c}}\nspec: {{{spec}}}\n"


def load(*documents: str) -> k8s.Manifests:
    return k8s.load_text("\n---\n".join(documents), "t.yaml")
