"""The real tools agree: iptables-restore takes what we write, and iptables-save writes the same."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.clusters import build_fake, cluster, dual_node
from control.proxy_world import everything
from control.rule_strategies import rules
from dataplane.control.iptables import IptablesTables
from dataplane.control.proxy.iptables import node_rules

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.may_skip("needs root and iptables"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("iptables-nft-restore") is None, reason="iptables-nft-restore is not installed"),
]
PROGRAMS = {4: "iptables-nft", 6: "ip6tables-nft"}
Contents = dict[tuple[str, str], list[str]]


def restored(tables: IptablesTables) -> Contents:
    """What iptables-save prints in a fresh namespace that iptables-restore was given our text in."""
    namespace = f"ipt-{os.getpid()}"
    inside = ["ip", "netns", "exec", namespace]
    program = PROGRAMS[tables.family]
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        subprocess.run([*inside, f"{program}-restore"], input=tables.save_text(), text=True, check=True)
        return contents(subprocess.run([*inside, f"{program}-save"], capture_output=True, text=True, check=True).stdout)
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)


def contents(saved: str) -> Contents:
    """Policy and rules by table and chain; which chain comes first means nothing."""
    found: Contents = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chain, policy, _ = line[1:].split()
            found[table, chain] = [policy]
        elif line.startswith("-A"):
            found[table, line.split()[1]].append(line)
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_rules_of_all_kinds_of_services_come_back_as_we_wrote_them(family: int) -> None:
    manifests = everything()
    for node in manifests.nodes:
        tables = node_rules(manifests, node, family, origins=lambda origin: 0)
        assert restored(tables) == contents(tables.save_text())


@pytest.mark.parametrize("family", [4, 6])
def test_random_rules_come_back_as_we_wrote_them(family: int) -> None:
    @settings(max_examples=10, deadline=None)
    @given(st.lists(rules(family), min_size=20, max_size=40))
    def check(texts: list[str]) -> None:
        tables = IptablesTables(family)
        tables.new_chain("filter", "OTHER")
        for text in texts:
            tables.append("filter", "INPUT", text)
        assert restored(tables) == contents(tables.save_text())

    check()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("cni", ["flannel", "calico"])
def test_a_nodes_rules_with_its_cnis_come_back_as_we_wrote_them(cni: str, family: int) -> None:
    spec = {"podCIDRs": ["10.1.0.0/16", "fd00:1::/32"], "underlay": {"cidrs": ["192.168.0.0/24", "fd00::/64"]}, "cni": {"name": cni}}
    _, topology = build_fake(cluster(**spec), dual_node(1), dual_node(2))
    tables = topology.firewalls[topology.namespace_id("n1")][family]
    assert restored(tables) == contents(tables.save_text())
