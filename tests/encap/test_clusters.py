"""Every built-in encapsulation between the nodes of a small cluster: pods reach each other, and stock tshark reads the capture."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from cli.recorded import VERIFY, one_line, tool
from dataplane.capture.open import open_capture
from dataplane.capture.packet import LINKTYPE_ETHERNET, LINKTYPE_RAW
from dataplane.capture.pcapng_write import CaptureWriter, Interface
from dataplane.cli.main import main

from .small_cluster import small_cluster, traffic

WARNING = 0x600000  # epan/proto.h: PI_WARN
BAD_CHECKSUM = "0"
GUE_PORT, SLEEVE_PORT = (6080).to_bytes(2, "big"), (6783).to_bytes(2, "big")
UNDERLAY = {4: "eth:ethertype:ip", 6: "eth:ethertype:ipv6"}
PODS = {4: "ip", 6: "ipv6"}
UPPER = {4: {"icmp:data", "udp:data", "tcp", "tcp:data"}, 6: {"icmpv6:data", "udp:data", "tcp", "tcp:data"}}


class Kind(NamedTuple):
    """What is expected of one encapsulation."""

    backend: str  # of Flannel's configuration
    between: str  # tshark's protocols between the outer IP header and the pods' own
    decode_as: tuple[str, ...] = ()
    families: tuple[tuple[int, ...], ...] = ((4,), (6,), (4, 6))


ETHERNET = "eth:ethertype:"
KINDS = {
    "vxlan": Kind("{Type: vxlan}", f"udp:vxlan:{ETHERNET}", ("-d", "udp.port==8472,vxlan")),
    "vxlan_gpe": Kind("{Type: vxlan_gpe, VNI: 7}", "udp:"),  # tshark gives its layer no name here
    "geneve": Kind("{Type: geneve, VNI: 7}", f"udp:geneve:{ETHERNET}"),
    "ipip": Kind("{Type: ipip}", ""),
    "gre": Kind("{Type: gre, key: 9, checksum: 1}", "gre:"),
    "gretap": Kind("{Type: gretap}", f"gre:{ETHERNET}"),
    "erspan": Kind("{Type: erspan}", f"gre:erspan:{ETHERNET}"),
    "fou": Kind("{Type: fou}", "udp:", ("-d", "udp.port==5555,ip")),
    "mpls_udp": Kind("{Type: mpls_udp}", "udp:mpls:"),
    "mpls_gre": Kind("{Type: mpls_gre}", "gre:mpls:"),
    "srv6": Kind("{Type: srv6}", "ipv6.routing:", (), ((6,),)),
    "srv6_l2": Kind("{Type: srv6_l2}", f"ipv6.routing:{ETHERNET}", (), ((6,),)),
    "wireguard": Kind("{Type: wireguard}", "udp:wg:"),
}
UNNAMED_IP = ("fou", "wireguard")  # tshark starts with its IPv4 dissector and hands IPv6 on
OWN_MESSAGES = {"wireguard": {"udp:wg"}}  # handshakes
CASES = [(kind, families) for kind, expected in KINDS.items() for families in expected.families]
READ = ("frame.protocols", "_ws.expert.severity", "_ws.malformed", "ip.checksum.status", "udp.checksum.status", "tcp.checksum.status")


def carry(folder: Path, backend: str, families: tuple[int, ...], *, mtu: int = 0) -> Path:
    """The capture of ``node1/eth0`` while the pods talk to each other both ways."""
    scenario = folder / "scenario.yaml"
    scenario.write_text(small_cluster(backend, families, mtu=mtu) + traffic(families), encoding="utf-8")
    assert main(["run", str(scenario), "-q", "-w", str(folder / "out.pcapng"), "--capture", "node1/eth0"]) == 0
    return folder / "out.pcapng"


def everything_arrived(printed: str, families: tuple[int, ...]) -> bool:
    """Whether all pings, datagrams and connections of all flows were answered."""
    return printed.count(" 2 of 2 ") == 6 * len(families)


def dissected(path: Path, *decode_as: str) -> set[str]:
    """The protocols of all frames but those of address resolution. Nothing may be wrong with any of them."""
    names = [word for name in READ for word in ("-e", name)]
    wanted = "!arp && !(icmpv6.type in {133..136, 143})"
    output = tool("tshark", "-n", "-r", str(path), *decode_as, *VERIFY, "-Y", wanted, "-T", "fields", *names)
    seen = set()
    for line in output.splitlines():
        protocols, severities, malformed, *checksums = line.split("\t")
        assert not malformed, protocols
        assert all(int(severity) < WARNING for severity in severities.split(",") if severity), protocols
        assert BAD_CHECKSUM not in ",".join(checksums).split(","), protocols
        seen.add(protocols)
    return seen


def expected_protocols(kind: str, family: int) -> set[str]:
    pods = "ip:ipv6" if family == 6 and kind in UNNAMED_IP else PODS[family]
    inside = {f"{KINDS[kind].between}{pods}:{upper}" for upper in UPPER[family]}
    return {f"{UNDERLAY[family]}:{rest}" for rest in inside | OWN_MESSAGES.get(kind, set())}


@pytest.mark.parametrize(("kind", "families"), CASES)
def test_pods_on_two_nodes_talk_and_tshark_reads_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, families: tuple[int, ...]
) -> None:
    mtu = 1430 if kind == "vxlan" and 6 in families else 0  # Flannel itself takes off only what VXLAN costs over IPv4
    capture = carry(tmp_path, KINDS[kind].backend, families, mtu=mtu)
    assert everything_arrived(capsys.readouterr().out, families)
    wanted = set().union(*(expected_protocols(kind, family) for family in families))
    assert dissected(capture, *KINDS[kind].decode_as) == wanted


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("vxlan", "wireguard")])
def test_full_segments_fill_the_underlays_mtu(tmp_path: Path, kind: str) -> None:
    capture = carry(tmp_path, KINDS[kind].backend, KINDS[kind].families[0])
    assert max(len(packet.data) for packet in open_capture(capture)) == 14 + 1500


# ---- what tshark has no dissector for: it sees UDP, and the packets inside once what is before them is cut off


def without_start(capture: Path, udp_at: int, count: int, link_type: int) -> Path:
    """The UDP packets of a capture, whose UDP header is at ``udp_at``, less it and ``count`` bytes behind it."""
    cut = capture.with_name("cut.pcapng")
    with CaptureWriter(cut, [Interface("cut", link_type=link_type)]) as writer:
        for packet in open_capture(capture):
            if packet.data[udp_at + 2 : udp_at + 4] in (GUE_PORT, SLEEVE_PORT):
                writer.write(0, packet.time_ns, packet.data[udp_at + 8 + count :], False, packet.number)
    return cut


@pytest.mark.parametrize(("family", "udp_at"), [(4, 14 + 20), (6, 14 + 40)])
def test_gue_carries_whole_packets_behind_four_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str], family: int, udp_at: int) -> None:
    capture = carry(tmp_path, "{Type: gue}", (family,))
    assert everything_arrived(capsys.readouterr().out, (family,))
    assert dissected(capture) == {f"{UNDERLAY[family]}:udp:data"}
    assert dissected(without_start(capture, udp_at, 4, LINKTYPE_RAW)) == {f"raw:{PODS[family]}:{upper}" for upper in UPPER[family]}


def test_a_sleeve_in_the_clear_carries_whole_frames_behind_its_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = carry(tmp_path, "{Type: sleeve}", (4,))
    assert everything_arrived(capsys.readouterr().out, (4,))
    assert dissected(capture) == {"eth:ethertype:ip:udp:data"}
    names = 6 + 6 + 6 + 2  # of the sender, of the frame's ends, and its length
    assert dissected(without_start(capture, 14 + 20, names, LINKTYPE_ETHERNET)) == {f"eth:ethertype:ip:{upper}" for upper in UPPER[4]}


def test_a_sleeve_with_a_password_shows_nothing_of_what_it_carries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nacl")
    capture = carry(tmp_path, "{Type: sleeve, Password: secret}", (4,))
    assert everything_arrived(capsys.readouterr().out, (4,))
    assert dissected(capture) == {"eth:ethertype:ip:udp:data"}
    datagrams = [packet.data[14 + 20 :] for packet in open_capture(capture) if packet.data[12:14] == b"\x08\0"]
    for pod in (bytes((10, 244, 1, 2)), bytes((10, 244, 2, 2))):
        assert not any(pod in datagram for datagram in datagrams)


# ---- what cannot be


@pytest.mark.parametrize(
    ("backend", "families", "told"),
    [
        ("{Type: srv6}", (4, 6), "node1): srv6 needs IPv6 below"),
        ("{Type: srv6_l2}", (4,), "node1): srv6_l2 needs IPv6 below"),
        ("{Type: sleeve}", (6,), "node1): Weave Net's sleeve carries IPv4 only"),
        ("{Type: sleeve, key: 1}", (4,), "Cluster c): cni.config.Backend.key is not known for sleeve"),
        ("{Type: sleeve, Port: 0}", (4,), "Cluster c): cni.config.Backend.Port is 0: write a number from 1 to 65535"),
        ("{Type: gre, id: 1}", (4,), "Cluster c): "),
    ],
)
def test_a_backend_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str, families: tuple[int, ...], told: str
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(small_cluster(backend, families), encoding="utf-8")
    line = one_line(capsys, ["get", "-f", str(path), "routes"])
    assert line.startswith(f"dataplane: {path}:")
    assert told in line
