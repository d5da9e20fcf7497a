"""The source address of own packets: the core's choice against its slow twin, for random addresses and destinations."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Interface

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.rfc6724 import Candidate, select
from core.worlds import mac
from core.worlds6 import ip6, udp6_packet
from dataplane._core import Engine

PREFIXES = ("2001:db8:1::", "2001:db8:2::", "fd00:1::", "fd00:2::", "fe80::", "fec0::", "2002:c000:201::", "2001::", "2001:10::", "3ffe::")
LENGTHS = (10, 28, 48, 64, 128)
NEXT_HOP = "fe80::ffff"
LOOPBACK = Candidate(-1, IPv6Interface("::1/128"))  # each namespace has it on lo


def within(prefix: str, host: int) -> IPv6Address:
    return IPv6Address(int(IPv6Address(prefix)) + host)


hosts = st.integers(1, 3) | st.integers(0, 0xFFFF).map(lambda number: number << 16 | 1)
addresses = st.builds(within, st.sampled_from(PREFIXES), hosts)
candidates = st.builds(
    lambda device, address, length: Candidate(device, IPv6Interface((address, length))),
    st.integers(0, 1),
    addresses,
    st.sampled_from(LENGTHS),
)
addressed = st.lists(candidates, max_size=6, unique_by=lambda each: each.interface.ip)


class Machine:
    """Two devices, the second of which leads everywhere."""

    OUT = 1

    def __init__(self, added: list[Candidate]) -> None:
        self.engine = Engine()
        self.ns = self.engine.add_namespace("machine")
        far = self.engine.add_namespace("far")
        self.engine.set_sysctl(far, "net.ipv6.conf.all.disable_ipv6", 1)
        self.devices = [self.cable(far, number) for number in range(2)]
        for each in added:
            self.engine.add_address(self.devices[each.device], each.interface.packed, each.interface.network.prefixlen)
        self.engine.add_neighbour(self.devices[self.OUT], ip6(NEXT_HOP), mac(9))

    def cable(self, far: int, number: int) -> int:
        near = self.engine.add_device(self.ns, f"eth{number}", "veth", mac=mac(number), mtu=1500)
        self.engine.connect(near, self.engine.add_device(far, f"eth{number}", "veth", mac=mac(8 + number), mtu=1500))
        return near

    def source(self, destination: IPv6Address) -> IPv6Address | None:
        """Of a packet that an application leaves it to Linux for."""
        self.engine.add_route(self.ns, destination.packed, 128, via=ip6(NEXT_HOP), dev=self.devices[self.OUT])
        self.engine.send(self.ns, udp6_packet(src="::", dst=str(destination)))
        self.engine.run(0)
        sent = [frame.data for frame in self.engine.frames() if frame.outgoing]
        return IPv6Address(sent[0][22:38]) if sent else None


def own(device: int, text: str) -> Candidate:
    return Candidate(device, IPv6Interface(text))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(addressed, addresses)
@example([own(1, "2001:db8:1::1/64"), own(1, "2001:db8:1::2/64")], IPv6Address("2001:db8:2::9"))
@example([own(1, "2001:db8:1::1/64"), own(1, "2001:10::1/28")], IPv6Address("fd00:1::9"))
@example([own(1, "2001:db8:1::1/64"), own(1, "3ffe::1/64")], IPv6Address("3ffe::9"))
def test_the_source_is_the_one_that_the_rules_prefer(added: list[Candidate], destination: IPv6Address) -> None:
    if any(each.interface.ip == destination for each in added):
        return  # it stays in the machine: rule 1 is below
    assert Machine(added).source(destination) == select([LOOPBACK, *added], destination, Machine.OUT)


def test_a_packet_to_ourselves_comes_from_the_same_address() -> None:
    """RFC 6724 5, rule 1."""
    machine = Machine([own(1, "2001:db8:1::1/64"), own(0, "2001:db8:1::2/64")])
    found = machine.engine.lookup_route(machine.ns, ip6("2001:db8:1::2"))
    assert (found["kind"], found["src"]) == ("local", ip6("2001:db8:1::2"))


@pytest.mark.parametrize("src", ["2001:db8:1::1", "fd00:1::1"])
def test_a_route_s_own_source_comes_before_all_rules(src: str) -> None:
    machine = Machine([own(1, "2001:db8:1::1/64"), own(0, "fd00:1::1/64")])
    machine.engine.add_route(machine.ns, ip6("2001:db8:9::"), 64, via=ip6(NEXT_HOP), dev=machine.devices[1], src=ip6(src))
    machine.engine.send(machine.ns, udp6_packet(src="::", dst="2001:db8:9::9"))
    machine.engine.run(0)
    assert [frame.data[22:38] for frame in machine.engine.frames() if frame.outgoing] == [ip6(src)]
