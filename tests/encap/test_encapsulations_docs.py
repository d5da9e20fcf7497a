"""docs/encapsulations.md: its numbers are those of the code and of the header sizes it names, its backends build, its names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dataplane._core import Codec, Engine, drop_reasons, encap_protocols
from dataplane.control.build import build
from dataplane.encap import registry
from dataplane.k8s import load_text

from .small_cluster import small_cluster
from .tunnel_packets import FRAME, PACKETS, TEB, ends

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "encapsulations.md").read_text(encoding="utf-8")
OUTER = {4: 20, 6: 40}
FAMILIES = (4, 6)
LINK = 1500
ROUTERS = {"peer_name": bytes(6), "peers": b"192.0.2.2 02:00:00:00:00:02\n"}  # which a sleeve needs to send anything


def rows(heading: str) -> list[list[str]]:
    """Cells of the table of a section, without its head; the first one without backquotes."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return [[row[0].strip("`"), *row[1:]] for row in found]


HEADERS = {row[0]: row[1:] for row in rows("Headers")}


def by_family(cell: str) -> dict[int, int]:
    """Of a cell such as ``36 / 56`` or ``none / 64``."""
    return {family: int(text) for family, text in zip(FAMILIES, cell.split(" / "), strict=True) if text != "none"}


def device(kind: str) -> Codec:
    registry.ensure(kind)
    return Codec(kind, ROUTERS if kind == "sleeve" else {})


def test_every_built_in_kind_is_there() -> None:
    assert sorted(HEADERS) == list(registry.built_in())
    assert {backend["Type"] for backend in backends()} == set(HEADERS)


@pytest.mark.parametrize("kind", HEADERS)
def test_the_overhead_is_the_sum_of_the_headers(kind: str) -> None:
    _, header, _, overhead, inside, mtu = HEADERS[kind]
    sizes = sum(int(size) for size in re.findall(r" (\d+)", f" {header}"))
    assert by_family(overhead) == {family: OUTER[family] + sizes for family in by_family(overhead)}
    codec = device(kind)
    assert by_family(overhead) == {family: codec.overhead(family) for family in by_family(overhead)}
    assert codec.ethernet is (inside == "Ethernet")
    left = {family: LINK - cost - (14 if codec.ethernet else 0) for family, cost in by_family(overhead).items()}
    assert by_family(mtu) == left


@pytest.mark.parametrize("kind", [kind for kind in HEADERS if kind != "wireguard"])  # which pads, and needs a session
def test_packets_grow_by_the_overhead(kind: str) -> None:
    codec = device(kind)
    for family, cost in by_family(HEADERS[kind][3]).items():
        protocol, inner = (TEB, FRAME) if codec.ethernet else next(iter(PACKETS.items()))
        assert len(codec.push(inner, protocol, *ends(family))) == len(inner) + cost


@pytest.mark.parametrize("kind", HEADERS)
def test_ports_and_protocols(kind: str) -> None:
    over = HEADERS[kind][2]
    number = int(re.findall(r"\d+", over)[0])
    codec = device(kind)
    assert codec.port == (number if over.startswith("UDP") else 0)
    if not over.startswith("UDP"):
        assert {int(text) for text in re.findall(r"\d+", over)} <= set(encap_protocols(kind))


def backends() -> list[dict[str, object]]:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found = yaml.safe_load(text)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("backend", backends(), ids=lambda backend: str(backend["Type"]))
def test_every_backend_builds(backend: dict[str, object]) -> None:
    kind = str(backend["Type"])
    families = tuple(by_family(HEADERS[kind][3]))
    manifests = load_text(small_cluster(yaml.safe_dump(backend, default_flow_style=True).strip(), families), "cluster.yaml")
    engine = Engine()
    topology = build(manifests, engine)
    devices = engine.devices(topology.namespace_id("node1"))
    assert [device["kind"] for device in devices].count(kind) == len(families)


def test_drop_reasons_exist() -> None:
    for kind in HEADERS:
        registry.ensure(kind)
    known = {reason.name for reason in drop_reasons()}
    listed = {f"{kind}/{name}" for kind, cell in rows("What is refused on receive") for name in re.findall(r"`(\w+)`", cell)}
    assert listed <= known
    assert set(re.findall(r"`(tunnel/\w+)`", PAGE)) <= known
