"""Stock tshark finds its way through what we write down to the inner payload, and has nothing to complain about."""

from __future__ import annotations

from pathlib import Path

import pytest

from .tunnel_packets import FRAME, FRAME6, IPV4, IPV6, PACKET4, PACKET6, TEB, seen_by_tshark
from .udp_tunnels import Options, push

DSR = bytes.fromhex("014b81020a60000100500000")
ETHER4, ETHER6 = "eth:ethertype:ip:udp:data", "eth:ethertype:ipv6:udp:data"
WRITTEN: list[tuple[str, Options, bytes, int, str]] = [
    ("vxlan", {"id": 7}, FRAME, TEB, f"vxlan:{ETHER4}"),
    ("vxlan", {"id": 7, "port": 8472}, FRAME6, TEB, f"vxlan:{ETHER6}"),
    ("vxlan", {"id": 7, "port": 6784}, FRAME, TEB, f"vxlan:{ETHER4}"),
    ("vxlan", {"id": 7, "gbp": 1, "gbp_policy": 5}, FRAME, TEB, f"vxlan:{ETHER4}"),
    ("vxlan", {"id": 7, "port": 4790, "flags": 12, "reserved1": 3}, FRAME, TEB, ETHER4),  # whose dissector gives itself no name here
    ("vxlan_gpe", {"id": 7}, PACKET4, IPV4, "ip:udp:data"),
    ("vxlan_gpe", {"id": 7}, PACKET6, IPV6, "ipv6:udp:data"),
    ("geneve", {"id": 7}, FRAME, TEB, f"geneve:{ETHER4}"),
    ("geneve", {"id": 7, "options": DSR, "udp_checksum": 1}, FRAME6, TEB, f"geneve:{ETHER6}"),
    ("geneve", {"id": 7}, PACKET4, IPV4, "geneve:ip:udp:data"),
    ("fou", {"port": 4754, "gre": 1}, PACKET4, IPV4, "gre:ip:udp:data"),
]
DECODE_AS = ("-d", "udp.port==8472,vxlan", "-d", "udp.port==6784,vxlan")


@pytest.mark.parametrize(("family", "name"), [(4, "ip"), (6, "ipv6")])
def test_every_header_is_dissected(tmp_path: Path, family: int, name: str) -> None:
    packets = [push(kind, options, inner, protocol, family) for kind, options, inner, protocol, _ in WRITTEN]
    found = seen_by_tshark(tmp_path / "written.pcap", packets, *DECODE_AS)
    assert found == [f"{name}:udp:{inside}" for *_, inside in WRITTEN]
