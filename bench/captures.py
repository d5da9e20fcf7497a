"""Makes captures of many flows for ``dataplane replay``: python bench/captures.py OUT.pcap --packets 10000000 --flows 1000000"""

from __future__ import annotations

import argparse
from ipaddress import IPv4Address, IPv4Network

from dataplane.traffic.generate import IMIX, SMALL, Mix, write_capture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="pcap file to write")
    parser.add_argument("--packets", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--flows", type=int, default=1000, help="each sends a frame in turn (default: %(default)s)")
    explained = "who sends; a prefix: all of it (default: %(default)s)"
    parser.add_argument("--source", default="10.244.1.5", metavar="ADDRESS[/LEN]", help=explained)
    explained = "where to; repeatable (default: 10.244.2.5:9125)"
    parser.add_argument("--target", action="append", metavar="ADDRESS:PORT", help=explained)
    parser.add_argument("--udp", type=int, default=100, metavar="PERCENT", help="of the flows, the others are TCP (default: %(default)s)")
    parser.add_argument("--sizes", choices=("64", "imix"), default="64", help="bytes of the frames (default: %(default)s)")
    parser.add_argument("--random", action="store_true", help="ports and addresses are drawn, not counted")
    parser.add_argument("--gap", type=int, default=1000, metavar="NS", help="between two frames (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args()
    sources = IPv4Network(args.source)
    mix = Mix(
        source_mac=bytes.fromhex("020000000001"),
        target_mac=bytes.fromhex("020000000002"),
        source=sources.network_address.packed,
        sources=sources.num_addresses,
        targets=tuple(_target(text) for text in args.target or ["10.244.2.5:9125"]),
        flows=args.flows,
        sizes=SMALL if args.sizes == "64" else IMIX,
        udp_percent=args.udp,
        random_keys=args.random,
        gap=args.gap,
        seed=args.seed,
    )
    write_capture(args.out, mix, args.packets)


def _target(text: str) -> tuple[bytes, int]:
    address, _, port = text.rpartition(":")
    return IPv4Address(address).packed, int(port)


if __name__ == "__main__":
    main()
