"""``encap fou|gue`` of IP and GRE tunnels (ip-link(8)): what Linux has as a property of a tunnel is a kind of its own here.

The device also listens on the port it sends to, for which Linux wants ``ip fou add`` beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dataplane.control.words import Words
from dataplane.errors import InputError

KINDS = ("fou", "gue")
CARRIED = {"ipip": 0, "gre": 1}
"""Tunnels that these carry, with the option ``gre`` of theirs."""
CHECKSUMS = {
    "encap-csum": ("udp_checksum", 1), "noencap-csum": ("udp_checksum", 0),
    "encap-csum6": ("udp6_zero_checksum_tx", 0), "noencap-csum6": ("udp6_zero_checksum_tx", 1),
}  # fmt: skip
WITHOUT_EFFECT = ("noencap", "noencap-remcsum")


@dataclass(slots=True)
class Around:
    """The UDP header that a tunnel asks for."""

    kind: str = ""  # "": none
    options: dict[str, int | bytes] = field(default_factory=dict)

    def read(self, key: str, words: Words) -> bool:
        """Take the words of this setting; False: it is none of these."""
        if key == "encap":
            chosen = words.choice("encap", (*KINDS, "none"))
            self.kind = "" if chosen == "none" else chosen
        elif key == "encap-sport":
            if not words.take("auto"):
                port = words.number("encap-sport")
                self.options |= {"port_min": port, "port_max": port + 1}
        elif key == "encap-dport":
            self.options["port"] = words.number("encap-dport")
        elif key in CHECKSUMS:
            option, value = CHECKSUMS[key]
            self.options[option] = value
        elif key == "encap-remcsum":
            raise InputError("encap-remcsum is not emulated: leave it out")
        else:
            return key in WITHOUT_EFFECT
        return True

    def put_around(self, kind: str, options: dict[str, int | bytes]) -> tuple[str, dict[str, int | bytes]]:
        """The kind and the options that are meant. ``InputError``: these tunnels are not carried in UDP."""
        if not self.kind:
            return kind, options
        if kind not in CARRIED:
            raise InputError(f"encap {self.kind} is emulated for ipip, sit, ip6tnl and gre, not for {kind}")
        if "port" not in self.options:
            raise InputError(f"encap {self.kind} needs the port: add encap-dport PORT")
        if options.get("encaplimit", -1) != -1:
            raise InputError(f"encap {self.kind} is emulated without an encapsulation limit: add encaplimit none")
        kept = {key: value for key, value in options.items() if key != "encaplimit"}
        for key, without in (("key", -1), ("sequence", -1), ("checksum", 0)):
            if kept.pop(key, without) != without:
                raise InputError(f"encap {self.kind} is emulated around a GRE header of 4 bytes: leave key, seq and csum out")
        return self.kind, {**kept, "gre": CARRIED[kind], **self.options}
