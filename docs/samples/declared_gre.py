"""GRE around IP packets (RFC 2784), with a key (RFC 2890) and with a checksum, as three declared encapsulations."""

from scapy.layers.l2 import GRE

from dataplane.encap.declarative import Checksum, Declarative, Identifier, InnerProtocol

LINUX = {"ttl_inherit": 1, "df": 1}  # TTL as inside, DF set: the defaults of ip-tunnel(8)

plain = Declarative("declared_gre", "GRE of 4 bytes around IP packets (RFC 2784)", GRE(), {"GRE.proto": InnerProtocol()}, defaults=LINUX)

keyed = Declarative(
    name="declared_gre_key",
    sentence="GRE with a key around IP packets (RFC 2890)",
    header=GRE(key_present=1, key=0),
    fields={"GRE.proto": InnerProtocol(), "GRE.key": Identifier(key="key")},
    defaults=LINUX,
)

summed = Declarative(
    name="declared_gre_checksum",
    sentence="GRE with checksum and key around IP packets (RFC 2784, RFC 2890)",
    header=GRE(chksum_present=1, key_present=1, key=0),
    fields={"GRE.proto": InnerProtocol(), "GRE.chksum": Checksum(), "GRE.key": Identifier(key="key")},
    defaults=LINUX,
)
