"""``ip link add ... type KIND`` and ``ip tunnel add``: tunnels as people make them, seen by the frames they send."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from control.clusters import build_real, cluster
from dataplane.control.setup import apply
from dataplane.errors import InputError

N1, N2 = "192.168.0.1", "192.168.0.2"
FAR = "172.16.9.9"


class Prompt:
    """A cluster of two nodes and a prompt on node n1."""

    def __init__(self) -> None:
        cni = {"name": "flannel", "config": {"Backend": {"Type": "host-gw"}}}
        self.engine, self.topology = build_real(cluster(neighbours="static", cni=cni))
        self.n1 = self.topology.namespace_id("n1")

    def __call__(self, commands: str) -> None:
        apply(self.topology, self.engine, "n1", commands)

    def refused(self, commands: str) -> str:
        with pytest.raises(InputError) as caught:
            self(commands)
        return str(caught.value)

    def device(self, name: str) -> dict[str, object]:
        return next(device for device in self.engine.devices(self.n1) if device["name"] == name)

    def send(self, *, to: str = FAR, ttl: int = 64, tos: int = 0) -> IP:
        """What leaves n1's eth0 for a packet to an address behind the tunnel."""
        self.engine.frames()
        self.engine.send(self.n1, bytes(IP(src="172.16.9.1", dst=to, ttl=ttl, tos=tos) / UDP() / Raw(b"x")))
        self.engine.run()
        eth0 = self.engine.find_device(self.n1, "eth0")
        (frame,) = [frame.data for frame in self.engine.frames() if frame.device == eth0 and frame.outgoing]
        packet = Ether(frame)[IP]
        assert isinstance(packet, IP)
        return packet


USE = "ip link set tun0 up; ip addr add 172.16.9.1/24 dev tun0"


@pytest.fixture
def run() -> Prompt:
    return Prompt()


def test_an_ipip_tunnel_with_its_own_ttl_and_tos(run: Prompt) -> None:
    run(f"ip link add tun0 type ipip local {N1} remote {N2} ttl 33 tos 10; {USE}")
    packet = run.send()
    assert (packet.src, packet.dst, packet.ttl, packet.tos, packet.flags, packet.proto) == (N1, N2, 33, 0x10, "DF", 4)
    assert packet.payload.dst == FAR


def test_what_is_inherited_comes_from_the_inner_packet(run: Prompt) -> None:
    run(f"ip tunnel add tun0 mode ipip remote {N2} ttl inherit tos inherit nopmtudisc; {USE}")
    packet = run.send(ttl=9, tos=0x28)
    assert (packet.ttl, packet.tos, packet.flags) == (9, 0x28, 0)


def test_gre_with_key_checksum_and_sequence(run: Prompt) -> None:
    run(f"ip link add tun0 type gre local {N1} remote {N2} key 7 csum seq; {USE}")
    first, second = run.send()[GRE], run.send()[GRE]
    assert (first.key, first.chksum_present, first.seqnum_present, second.sequence_number - first.sequence_number) == (7, 1, 1, 1)


def test_vxlan_with_a_default_remote_end(run: Prompt) -> None:
    run(f"ip link add tun0 type vxlan id 77 dev eth0 local {N1} remote {N2} dstport 8472 srcport 40000 40001 noudpcsum nolearning")
    run(f"{USE}; ip neigh add {FAR} lladdr 02:00:00:00:00:09 dev tun0")
    packet = run.send()
    assert (packet[UDP].dport, packet[UDP].sport, packet[UDP].chksum, packet[VXLAN].vni) == (8472, 40000, 0, 77)


@pytest.mark.parametrize(
    ("words", "mtu"),
    [
        (f"type ipip remote {N2}", 1480),
        (f"type gre remote {N2} key 1", 1472),
        (f"type gretap remote {N2}", 1462),
        ("type vxlan id 1 dev eth0", 1450),
        (f"type ipip remote {N2} dev eth0", 1480),
        (f"mtu 1300 type ipip remote {N2}", 1300),
        ("type ip6tnl remote fd00::2", 1452),
        ("type ip6gre remote fd00::2", 1448),
        ("type ip6gre remote fd00::2 encaplimit none", 1456),
        ("type ip6gretap remote fd00::2", 1434),
        ("type wireguard", 1420),
        ("dev eth0 type wireguard", 1420),
        (f"type ipip remote {N2} encap fou encap-dport 5555", 1472),
        (f"type gre remote {N2} encap gue encap-dport 6080", 1464),
    ],
)
def test_the_mtu_is_what_fits_on_the_device_below(run: Prompt, words: str, mtu: int) -> None:
    run(f"ip link add tun0 {words}")
    assert run.device("tun0")["mtu"] == mtu


def test_a_new_device_is_down(run: Prompt) -> None:
    run(f"ip link add tun0 type ipip remote {N2}")
    assert run.device("tun0")["up"] is False
    run("ip link set tun0 up")
    assert run.device("tun0")["up"] is True


def test_an_option_of_the_encapsulation_is_known_by_its_own_name(run: Prompt) -> None:
    run(f"ip link add tun0 type vxlan id 1 port 0x1234 flow_label 5 remote {N2}")
    run(f"{USE}; ip neigh add {FAR} lladdr 02:00:00:00:00:09 dev tun0")
    assert run.send()[UDP].dport == 0x1234


@pytest.mark.parametrize("words", ["ikey 9 okey 0.0.0.9", "key 0.0.0.9"])
def test_a_gre_key_may_be_given_for_each_direction_and_as_an_address(run: Prompt, words: str) -> None:
    run(f"ip link add tun0 type gre local {N1} remote {N2} {words} icsum ocsum iseq oseq; {USE}")
    gre = run.send()[GRE]
    assert (gre.key, gre.chksum_present, gre.seqnum_present) == (9, 1, 1)


def test_the_words_of_erspan(run: Prompt) -> None:
    """Type II: version 1, session and index; type III: version 2, hardware id and direction (draft-foschiano-erspan 4.2, 4.3)."""
    neighbour = f"ip neigh add {FAR} lladdr 02:00:00:00:00:09 dev tun0"
    run(f"ip link add tun0 type erspan local {N1} remote {N2} seq key 100 erspan_ver 1 erspan 123; {USE}; {neighbour}")
    header = bytes(run.send()[GRE])[8:16]
    assert (header[0] >> 4, int.from_bytes(header[2:4], "big") & 0x3FF, int.from_bytes(header[4:8], "big") & 0xFFFFF) == (1, 100, 123)
    run(f"ip link set tun0 down; ip link add tun1 type erspan local {N1} remote {N2} key 7 erspan_ver 2 erspan_dir egress erspan_hwid 0x3f")
    run(f"{USE}; {neighbour}".replace("tun0", "tun1").replace("172.16.9.1/24", "172.16.8.1/24").replace(FAR, "172.16.8.9"))
    header = bytes(run.send(to="172.16.8.9")[GRE])[8:20]
    assert (header[0] >> 4, int.from_bytes(header[2:4], "big") & 0x3FF) == (2, 7)
    assert int.from_bytes(header[8:12], "big") & 0x3F8 == (0x3F << 4) | (1 << 3)


@pytest.mark.parametrize(
    ("words", "start"),
    [
        ("type ipip encap fou encap-sport 7777 encap-dport 5555", "1e6115b3"),
        ("type gre encap fou encap-sport 7777 encap-dport 5555", "1e6115b3"),
        ("type ipip encap gue encap-sport 7777 encap-dport 6080 encap-csum", "1e6117c0"),
    ],
)
def test_tunnels_in_udp(run: Prompt, words: str, start: str) -> None:
    run(f"ip link add tun0 {words} local {N1} remote {N2}; {USE}")
    packet = run.send()
    assert bytes(packet[UDP])[:4].hex() == start
    inside = bytes(packet[UDP].payload)
    before = {"gre": bytes.fromhex("00000800"), "gue": bytes((0, 4, 0, 0))}  # RFC 2784; draft-ietf-intarea-gue 3: IP protocol 4
    header = next((value for name, value in before.items() if name in words), b"")
    assert inside.startswith(header)
    assert IP(inside[len(header) :]).dst == FAR
    assert (packet[UDP].chksum != 0) is ("encap-csum" in words)


def test_wireguard_is_configured_by_a_file(run: Prompt, tmp_path: Path) -> None:
    keys = {name: b64encode(bytes(range(number, number + 32))).decode() for name, number in (("own", 1), ("peer", 2))}
    peer = f"[Peer]\nPublicKey = {keys['peer']}\nEndpoint = {N2}:51820\nAllowedIPs = 172.16.9.0/24\n"
    (tmp_path / "wg.conf").write_text(f"[Interface]\nPrivateKey = {keys['own']}\nListenPort = 4500\n{peer}", encoding="utf-8")
    run(f"ip link add tun0 type wireguard config '@{tmp_path}/wg.conf'; {USE}")
    initiation = run.send()[UDP]
    assert (initiation.sport, initiation.dport, bytes(initiation.payload)[0]) == (4500, 51820, 1)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("ip link add tun0 type nosuch", "no encapsulation is called nosuch"),
        ("ip link add tun0", "type is missing"),
        ("ip link add tun0 up type ipip", "'up' is not understood before type: use mtu, address or link"),
        ("ip link add tun0 type ipip rempte 1.2.3.4", "'rempte' is not understood for ipip: its options are df, encaplimit,"),
        ("ip link add tun0 type ipip ttl 256", "option 'ttl' is unknown or its value is out of range"),
        ("ip link add tun0 type ipip id 5", "option 'id' is unknown or its value is out of range"),
        ("ip link add tun0 type ipip ttl soon", "ttl must be a number, not 'soon'"),
        ("ip link add tun0 type ipip tos zz", "tos must be inherit or a hexadecimal number, not 'zz'"),
        ("ip link add tun0 type vxlan id x", "id must be a number, not 'x'"),
        ("ip link add tun0 type vxlan flow_label zz", "option 'flow_label' is unknown or its value is out of range"),
        ("ip link add eth0 type ipip", "n1 has a device eth0 already"),
        ("ip link add a-name-of-16-byte type ipip", "must have 1 to 15 bytes"),
        ("ip link add tun0 type ipip remote far", "remote must be an address, not 'far'"),
        ("ip tunnel add tun0 ipip", "say ip tunnel add NAME mode MODE"),
        ("ip link add tun0 type gre ikey 1 okey 2", "ikey and okey can only be given both and equal: write key for both"),
        ("ip link add tun0 type gre ikey 1", "ikey and okey can only be given both and equal: write key for both"),
        ("ip link add tun0 type gre oseq", "iseq and oseq can only be given both and equal: write seq for both"),
        ("ip link add tun0 type gre key 1.2.3", "key must be a number or written as an IPv4 address, not '1.2.3'"),
        ("ip link add tun0 type erspan erspan_dir up", "'up' is not a known erspan_dir: use one of ingress, egress"),
        ("ip link add tun0 type gretap encap fou encap-dport 1", "encap fou is emulated for ipip, sit, ip6tnl and gre, not for gretap"),
        ("ip link add tun0 type ipip encap gue", "encap gue needs the port: add encap-dport PORT"),
        ("ip link add tun0 type gre key 1 encap fou encap-dport 1", "encap fou is emulated around a GRE header of 4 bytes"),
        ("ip link add tun0 type gre seq encap fou encap-dport 1", "encap fou is emulated around a GRE header of 4 bytes"),
        ("ip link add tun0 type ip6tnl encap fou encap-dport 1", "encap fou is emulated without an encapsulation limit"),
        ("ip link add tun0 type ipip encap-remcsum", "encap-remcsum is not emulated"),
        ("ip link add tun0 type wireguard config @missing", "missing: cannot be read"),
        ("ip link add tun0 type wireguard config text", "config line 1: 'text' is no 'Key = value'"),
    ],
)
def test_a_mistake_is_named(run: Prompt, command: str, reason: str) -> None:
    message = run.refused(command)
    assert message.startswith(f"setup of n1: {command}: ")
    assert reason in message
