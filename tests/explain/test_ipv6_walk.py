"""What is said of an IPv6 packet's walk, on a dual-stack cluster."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from dataplane.capture.checksums import INVALID, checksums
from dataplane.capture.open import open_capture
from dataplane.explain.reasons import details, notes, reason
from dataplane.explain.walk import DELIVERED
from dataplane.explain.walk_capture import write_walks
from dataplane.k8s.objects import Manifests

from .conftest import Trace, ask
from .parity import UNDERLAY_MTU, dual_stack


@pytest.fixture(scope="module")
def routed(checkout: Path) -> Manifests:
    return dual_stack(checkout, "flannel-host-gw", narrow=False)


@pytest.fixture(scope="module")
def tunnelled(checkout: Path) -> Manifests:
    return dual_stack(checkout, "flannel-vxlan", narrow=False)


def test_every_router_takes_one_from_the_hop_limit_and_says_so(routed: Manifests, trace: Trace) -> None:
    (choice,) = trace(routed, "pod/shell", "pod/web-1", family=6)
    steps = [step for step in choice.run.forward.steps if step.what == "ttl"]
    assert [[tuple(change) for change in step.changes] for step in steps] == [
        [("IPv6", "hop limit", "64", "63")],
        [("IPv6", "hop limit", "63", "62")],
    ]
    assert [step.text for step in steps] == ["hop limit is now 63", "hop limit is now 62"]


def test_a_packet_too_big_is_answered_with_the_next_hops_mtu(checkout: Path, trace: Trace) -> None:
    narrow = dual_stack(checkout, "flannel-host-gw", narrow=True)
    question = ask(narrow, "pod/shell", "pod/web-1", proto="udp", port="stats", family=6, size=UNDERLAY_MTU + 1)
    (choice,) = trace(narrow, "pod/shell", "pod/web-1", proto="udp", port="stats", family=6, size=UNDERLAY_MTU + 1)
    assert choice.run.forward.verdict.reason == "forward/too_big"
    assert "the IP packet has 1401 bytes and is IPv6, which no router fragments" in details(choice.run.forward, choice.run.topology)
    (note,) = notes(question, choice.run)
    assert note.startswith("answer: fd00:10:244:1::1 > fd00:10:244:1::5 ICMPv6 packet too big, about [fd00:10:244:1::5]:40000 > ")
    assert "(the next hop's MTU is 1400); DELIVERED to pod/default/shell" in note
    (fits,) = trace(narrow, "pod/shell", "pod/web-1", proto="udp", port="stats", family=6, size=UNDERLAY_MTU)
    assert fits.run.forward.verdict.result == DELIVERED


def test_each_ipv6_endpoint_is_an_outcome_and_equally_likely(routed: Manifests, trace: Trace) -> None:
    choices = trace(routed, "pod/shell", "service/modern")
    ends = {str(ip_address(choice.endpoint[0])) for choice in choices if choice.endpoint}
    assert ends == {"fd00:10:244:1::6", "fd00:10:244:2::5"}
    assert [choice.probability for choice in choices] == pytest.approx([0.5, 0.5], abs=1e-6)


def test_a_service_without_endpoints_rejects_in_icmpv6(routed: Manifests, trace: Trace) -> None:
    (choice,) = trace(routed, "pod/shell", "service/billing", family=6)
    assert choice.run.forward.verdict.reason == "rules/rejected"
    assert "(Service default/billing)" in reason(choice.run.forward)
    (note,) = notes(ask(routed, "pod/shell", "service/billing", family=6), choice.run)
    assert "ICMPv6 port unreachable, about [fd00:10:244:1::5]:40000 > [fd00:10:96::70]:80 TCP SYN" in note


@pytest.mark.parametrize("to", ["127.0.0.1", "::1", "10.244.1.5", "fd00:10:244:1::5"])
def test_talking_to_oneself_is_no_hairpin(routed: Manifests, trace: Trace, to: str) -> None:
    (choice,) = trace(routed, "pod/shell", to)
    assert choice.run.forward.verdict.result == DELIVERED
    assert [note for note in notes(ask(routed, "pod/shell", to), choice.run) if "hairpin" in note] == []


def test_solicitations_are_no_answer(routed: Manifests, trace: Trace) -> None:
    """They are sent before the error that says that they were in vain."""
    (choice,) = trace(routed, "node/node1", "fd00:192:168::77", proto="udp")
    assert choice.run.forward.verdict.reason == "neighbour/unresolved"
    (note,) = notes(ask(routed, "node/node1", "fd00:192:168::77", proto="udp"), choice.run)
    assert note.startswith("answer: fd00:192:168::11 > fd00:192:168::11 ICMPv6 address unreachable, about ")


def test_a_tunnel_over_ipv6_shows_its_headers(tunnelled: Manifests, trace: Trace) -> None:
    (choice,) = trace(tunnelled, "pod/shell", "pod/web-1", family=6)
    encap = next(step for step in choice.run.forward.steps if step.what == "encap")
    assert [change.layer for change in encap.changes if not change.before] == ["IPv6", "UDP", "VXLAN"]
    assert encap.changes[0].after == "source fd00:192:168::11, destination fd00:192:168::12"


@pytest.mark.parametrize("to", ["pod/web-1", "service/web:http", "service/billing"])
def test_the_capture_of_a_walk_has_valid_checksums(tunnelled: Manifests, trace: Trace, tmp_path: Path, to: str) -> None:
    write_walks(tmp_path / "walk.pcapng", tunnelled, trace(tunnelled, "pod/shell", to, family=6), reply=True)
    frames = list(open_capture(tmp_path / "walk.pcapng"))
    assert frames
    assert [item for frame in frames for item in checksums(frame.data) if item.state == INVALID] == []
