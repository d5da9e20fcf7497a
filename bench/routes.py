"""Seeded routing tables and destinations for longest-prefix-match benchmarks, as files that other programs read too.

``python bench/routes.py FAMILY COUNT ROUTES KEYS [--seed N] [--keys N] [--hops N]`` writes

* ROUTES, a line for each route: ``ADDRESS/LENGTH NEXTHOP`` (a number from 1 to ``--hops``), every prefix once;
* KEYS, the destinations: addresses of 4 or 16 bytes in network byte order, one behind the other.

Prefix lengths follow the shares that public BGP tables have (IPv4 and IPv6 "prefix length distribution" of the weekly
CIDR and routing-table reports, rounded), and prefixes are nested and neighboured as allocations are: a provider's block first,
then announcements inside it. Destinations of IPv4 are uniform over all unicast addresses from 1.0.0.0 to
223.255.255.255, so that no part of a table stays cached for being popular. Uniform IPv6 addresses would meet no route:
there a route is drawn, and the bits behind its prefix are random.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import accumulate
from pathlib import Path

Route = tuple[int, int, int]  # address as an integer without host bits, prefix length, next hop

SHARES4 = {8: 0.02, 10: 0.04, 11: 0.1, 12: 0.3, 13: 0.6, 14: 1.2, 15: 2.0, 16: 13.5, 17: 8.5, 18: 14, 19: 25, 20: 44, 21: 52, 22: 112,
           23: 103, 24: 615, 25: 1, 26: 1, 27: 1, 28: 1, 29: 1, 30: 1, 32: 2}
SHARES6 = {20: 0.1, 24: 0.3, 28: 1.5, 29: 25, 30: 3, 31: 2, 32: 120, 33: 17, 34: 14, 35: 7, 36: 50, 37: 6, 38: 12, 39: 8, 40: 85, 41: 6,
           42: 22, 43: 7, 44: 100, 45: 14, 46: 40, 47: 33, 48: 450, 56: 2, 64: 3, 128: 1}
ALLOCATIONS4 = (16, 17, 18, 19, 20, 21, 22)
ALLOCATIONS6 = (28, 29, 32)
# The five registries' blocks within 2000::/3 (IANA, IPv6 Global Unicast Address Assignments).
REGISTRIES6 = ((0x2001, 16), (0x2400, 12), (0x2600, 12), (0x2800, 12), (0x2A00, 12), (0x2C00, 12))
UNICAST4 = (0x01000000, 0xDFFFFFFF)
NESTED = 0.7  # of the announcements lie inside a block announced or allocated before


def _block4(rng: random.Random) -> tuple[int, int]:
    length = rng.choice(ALLOCATIONS4)
    return rng.randint(*UNICAST4) >> (32 - length) << (32 - length), length


def _block6(rng: random.Random) -> tuple[int, int]:
    first, fixed = rng.choice(REGISTRIES6)
    length = rng.choice(ALLOCATIONS6)
    return (first << 112 | rng.getrandbits(128 - fixed)) >> (128 - length) << (128 - length), length


def _inside(rng: random.Random, block: tuple[int, int], length: int, bits: int) -> int:
    """A prefix of ``length`` bits that lies in the block, or contains it if it is the shorter one."""
    address, fixed = block
    if length > fixed:
        address |= rng.getrandbits(bits - fixed)
    return address >> (bits - length) << (bits - length)


def routes(family: int, count: int, seed: int = 1, hops: int = 1000) -> Iterator[Route]:
    """``count`` distinct prefixes in random order; the first ones are a sample of the whole, not its short prefixes."""
    rng = random.Random(f"routes {family} {seed}")
    bits, shares, new_block = (32, SHARES4, _block4) if family == 4 else (128, SHARES6, _block6)
    lengths, weights = list(shares), list(accumulate(shares.values()))
    blocks: list[tuple[int, int]] = []
    seen: set[tuple[int, int]] = set()
    while len(seen) < count:
        length = rng.choices(lengths, cum_weights=weights)[0]
        if not blocks or rng.random() >= NESTED:
            blocks.append(new_block(rng))
            block = blocks[-1]
        else:
            block = blocks[int(rng.random() * len(blocks))]
        prefix = (_inside(rng, block, length, bits), length)
        if prefix not in seen:
            seen.add(prefix)
            yield *prefix, rng.randint(1, hops)


def destinations(family: int, table: list[Route], count: int, seed: int = 1) -> bytes:
    """Addresses to look up, in network byte order."""
    rng = random.Random(f"destinations {family} {seed}")
    if family == 4:
        return b"".join(rng.randint(*UNICAST4).to_bytes(4, "big") for _ in range(count))
    keys = bytearray()
    for _ in range(count):
        address, length, _ = rng.choice(table)
        keys += (address | rng.getrandbits(128 - length) if length < 128 else address).to_bytes(16, "big")
    return bytes(keys)


def write_routes(path: Path, family: int, table: list[Route]) -> None:
    size = 4 if family == 4 else 16
    with path.open("w", encoding="ascii") as out:
        out.writelines(f"{ip_address(address.to_bytes(size, 'big'))}/{length} {hop}\n" for address, length, hop in table)


def main() -> None:
    parser = argparse.ArgumentParser(description="write a routing table and destinations for benchmarks")
    parser.add_argument("family", type=int, choices=(4, 6))
    parser.add_argument("count", type=int, help="routes")
    parser.add_argument("routes", type=Path)
    parser.add_argument("keys", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", dest="key_count", type=int, default=1 << 20, help="destinations (default 1048576)")
    parser.add_argument("--hops", type=int, default=1000, help="distinct next hops (default 1000)")
    args = parser.parse_args()
    table = list(routes(args.family, args.count, args.seed, args.hops))
    write_routes(args.routes, args.family, table)
    args.keys.write_bytes(destinations(args.family, table, args.key_count, args.seed))


if __name__ == "__main__":
    main()
