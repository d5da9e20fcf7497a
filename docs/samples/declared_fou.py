"""IP packets right in UDP, as Linux' foo over UDP, declared without Scapy: the template is a UDP header with its destination port."""

from dataplane.encap.declarative import Declarative

fou = Declarative(
    name="declared_fou",
    sentence="IP packets right in UDP, as Linux' foo over UDP",
    header=bytes.fromhex("0000 15b3 0000 0000"),  # destination port 5555; the core fills in the rest
    ip_protocol=17,
    defaults={"udp_checksum": 0, "udp6_zero_checksum_rx": 1, "ttl_inherit": 1, "df": 1},
)
