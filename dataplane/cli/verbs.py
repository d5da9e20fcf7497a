"""The verbs and their one line of help.

A static table, so that ``dataplane --help`` imports no verb; a test keeps it equal to the files.
"""

VERBS = {
    "bench": "measure how fast frames are carried on this machine, beside earlier runs and other programs",
    "check": "run case files and name what differs",
    "compare": "carry the same flows through a cluster under several CNI data paths, and compare bytes, goodput, losses and time",
    "encap": "list encapsulations, and put packets into one or take them out",
    "get": "show pods, nodes, services, endpoints, and what the network holds: routes, rules, conntrack, drops, ...",
    "mtu": "compute what fits through each path, prove it with frames, and say what the MTUs should be",
    "replay": "carry a capture's frames through a cluster from a pod, node or host on",
    "rules": "print a node's iptables rules, as iptables-restore takes them",
    "run": "carry a scenario's traffic through its cluster to the end",
    "schema": "print the JSON Schema of our own manifest kinds",
    "trace": "follow one packet hop by hop, and say why it ends where it does",
    "wireshark": "open a capture in Wireshark, or write a Wireshark profile for our captures",
}
