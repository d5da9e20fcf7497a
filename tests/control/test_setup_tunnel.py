"""``ip link add ... type KIND`` and ``ip tunnel add``: tunnels as people make them, seen by the frames they send."""

from __future__ import annotations

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

    def send(self, *, ttl: int = 64, tos: int = 0) -> IP:
        """What leaves n1's eth0 for a packet to ``FAR``."""
        self.engine.frames()
        self.engine.send(self.n1, bytes(IP(src="172.16.9.1", dst=FAR, ttl=ttl, tos=tos) / UDP() / Raw(b"x")))
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
        ("ip link add tun0 type vxlan flow_label zz", "'zz' is no number, no address and no hexadecimal bytes"),
        ("ip link add eth0 type ipip", "n1 has a device eth0 already"),
        ("ip link add a-name-of-16-byte type ipip", "must have 1 to 15 bytes"),
        ("ip link add tun0 type ipip remote far", "remote must be an address, not 'far'"),
        ("ip tunnel add tun0 ipip", "say ip tunnel add NAME mode MODE"),
    ],
)
def test_a_mistake_is_named(run: Prompt, command: str, reason: str) -> None:
    message = run.refused(command)
    assert message.startswith(f"setup of n1: {command}: ")
    assert reason in message
