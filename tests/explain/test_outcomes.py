"""Random choices: all of them, with probabilities that add up, each walked to its own endpoint."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from dataplane.explain.outcomes import as_it_fell
from dataplane.explain.walk import DELIVERED
from dataplane.k8s.objects import Manifests

from .conftest import Trace, ask

WEB = ["10.244.1.6", "10.244.2.10", "10.244.2.11"]


@pytest.mark.parametrize("source", ["pod/p15", "node/node1", "host/cl"])
def test_each_endpoint_is_an_outcome_and_equally_likely(any_data_path: Manifests, trace: Trace, source: str) -> None:
    to = "192.168.1.100:30080" if source == "host/cl" else "service/web"
    choices = trace(any_data_path, source, to)
    assert sorted(str(ip_address(choice.endpoint[0])) for choice in choices if choice.endpoint) == WEB
    assert [choice.probability for choice in choices] == pytest.approx([1 / 3] * 3, abs=1e-6)  # the rules hold 2^-31ths
    for choice in choices:
        arrived = choice.run.topology.machines[choice.run.forward.verdict.namespace]
        assert choice.run.forward.verdict.result == DELIVERED
        assert choice.endpoint is not None
        assert ip_address(choice.endpoint[0]) in arrived.addresses


def test_a_single_endpoint_leaves_nothing_to_chance(vxlan: Manifests, trace: Trace) -> None:
    (choice,) = trace(vxlan, "pod/p15", "service/remote1")
    assert (choice.probability, choice.endpoint) == (1.0, None)


def test_the_seed_chooses_and_the_others_are_counted(vxlan: Manifests) -> None:
    question = ask(vxlan, "pod/p15", "service/web")
    endpoints = set()
    for seed in range(12):
        choice, others = as_it_fell(vxlan, question, seed=seed)
        arrived = choice.run.topology.machines[choice.run.forward.verdict.namespace]
        assert choice.endpoint is not None
        assert ip_address(choice.endpoint[0]) in arrived.addresses
        assert others == 2
        endpoints.add(choice.endpoint)
    assert len(endpoints) > 1
    assert as_it_fell(vxlan, question, seed=3)[0].endpoint == as_it_fell(vxlan, question, seed=3)[0].endpoint
