"""Neighbour Discovery as who is asked: advertisements and their flags, duplicate detection, anycast, proxies (RFC 4861 7.2)."""

from __future__ import annotations

import pytest

from core.worlds import IPV6, MILLISECOND, ROUTER0_MAC, SECOND, ether, mac
from core.worlds6 import (
    ADVERTISEMENT,
    ALL_NODES,
    LINK_LOCAL0,
    ROUTER06,
    SOLICITATION,
    Router6,
    group_mac,
    icmpv6_packet,
    ip6,
    link_option,
    neighbour_message,
    solicited_node,
)

ASKER, ASKER_MAC = "2001:db8:0::5", mac(5)
SUBNET_ROUTER = "2001:db8::"  # anycast address of the client's subnet, RFC 4291 2.6.1
PROXIED = "2001:db8:0::77"
ROUTER_SOLICITATION = 133
SOURCE_LINK, TARGET_LINK = 1, 2  # options, RFC 4861 4.6.1
IS_ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20
PROXY_DELAY = 800 * MILLISECOND  # net.ipv6.neigh.default.proxy_delay


def ask(router: Router6, target: str, *, src: str = ASKER, unicast: bool = False, with_link: bool = True) -> None:
    """Somebody on eth0 solicits; nothing but what happens at once happens."""
    dst = target if unicast else solicited_node(target)
    options = link_option(SOURCE_LINK, ASKER_MAC) if with_link else b""
    packet = neighbour_message(SOLICITATION, target, options=options, src=src, dst=dst)
    router.engine.receive(router.eth0, ether(packet, dst=ROUTER0_MAC if unicast else group_mac(dst), src=ASKER_MAC, kind=IPV6))
    router.engine.run(router.engine.now)


def said(target: str, flags: int, *, src: str | None = None, dst: str = ASKER, with_link: bool = True) -> bytes:
    """An advertisement as the router's eth0 sends it."""
    options = link_option(TARGET_LINK, ROUTER0_MAC) if with_link else b""
    packet = neighbour_message(ADVERTISEMENT, target, flags=flags, options=options, src=src or target, dst=dst)
    return ether(packet, dst=group_mac(dst) if dst == ALL_NODES else ASKER_MAC, src=ROUTER0_MAC, kind=IPV6)


@pytest.mark.parametrize("target", [ROUTER06, LINK_LOCAL0])
def test_an_address_of_ours_is_advertised_and_the_asker_learned(target: str) -> None:
    """The asker's address is stale and, since the answer uses it, soon to be probed (RFC 4861 7.3.3)."""
    router = Router6()
    ask(router, target)
    assert router.frames(router.eth0) == [said(target, IS_ROUTER | SOLICITED | OVERRIDE)]
    assert router.neighbour(ASKER) == ("delay", ASKER_MAC)


def test_a_host_does_not_say_that_it_is_a_router() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.conf.all.forwarding", 0)
    ask(router, ROUTER06)
    assert router.frames(router.eth0) == [said(ROUTER06, SOLICITED | OVERRIDE)]


@pytest.mark.parametrize("force", [False, True])
def test_whoever_asks_us_alone_knows_our_mac(force: bool) -> None:
    """No target link-layer address then (RFC 4861 4.4: may be omitted), and no override (ndisc_recv_ns()), unless force_tllao is on."""
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.conf.eth0.force_tllao", force)
    ask(router, ROUTER06, unicast=True)
    assert router.frames(router.eth0) == [said(ROUTER06, IS_ROUTER | SOLICITED, with_link=force)]


def test_whoever_looks_for_a_duplicate_is_told_before_all() -> None:
    """RFC 4862 5.4.3, RFC 4861 7.2.4: from the unspecified address: to all nodes, not solicited. Nobody is learned."""
    router = Router6()
    ask(router, ROUTER06, src="::", with_link=False)
    assert router.frames(router.eth0) == [said(ROUTER06, IS_ROUTER | OVERRIDE, dst=ALL_NODES)]
    assert router.neighbour("::")[0] == "none"


@pytest.mark.parametrize(("unicast", "with_link", "reason"), [(True, False, "bad_message"), (False, True, "bad_options")])
def test_duplicate_detection_is_for_the_group_and_without_address(unicast: bool, with_link: bool, reason: str) -> None:
    """RFC 4861 7.1.1."""
    router = Router6()
    ask(router, ROUTER06, src="::", unicast=unicast, with_link=with_link)
    assert router.frames(router.eth0) == []
    assert router.dropped(f"neighbour_discovery/{reason}") == 1


def test_an_asker_who_names_no_mac_is_answered_if_known() -> None:
    router = Router6()
    ask(router, ROUTER06, with_link=False)
    assert router.frames(router.eth0) == []
    ask(router, ROUTER06)
    router.engine.frames()
    ask(router, ROUTER06, with_link=False)
    assert router.frames(router.eth0) == [said(ROUTER06, IS_ROUTER | SOLICITED | OVERRIDE)]


def test_an_unknown_asker_of_us_alone_is_asked_for_first() -> None:
    """RFC 4861 7.2.4: an advertisement is an own packet, it waits for the asker's address."""
    router = Router6()
    ask(router, ROUTER06, unicast=True, with_link=False)
    question = neighbour_message(
        SOLICITATION, ASKER, options=link_option(SOURCE_LINK, ROUTER0_MAC), src=ROUTER06, dst=solicited_node(ASKER)
    )
    assert router.frames(router.eth0) == [ether(question, dst=group_mac(solicited_node(ASKER)), src=ROUTER0_MAC, kind=IPV6)]
    router.take(
        neighbour_message(ADVERTISEMENT, ASKER, flags=SOLICITED, options=link_option(TARGET_LINK, ASKER_MAC), src=ASKER, dst=ROUTER06)
    )
    assert router.frames(router.eth0) == [said(ROUTER06, IS_ROUTER | SOLICITED, with_link=False)]


@pytest.mark.parametrize("target", ["2001:db8:1::1", "2001:db8:0::6"])
def test_nobody_answers_for_addresses_of_other_devices_and_machines(target: str) -> None:
    """Unlike ARP, where arp_ignore 0 answers for each address of the machine (RFC 4861 7.2.3: assigned to the receiving interface)."""
    router = Router6()
    ask(router, target)
    router.engine.run(2 * SECOND)
    assert router.frames(router.eth0) == []


# ---- in another's place, or together with others


def test_an_anycast_address_is_advertised_without_override_after_a_while() -> None:
    """RFC 4861 7.2.7."""
    router = Router6()
    ask(router, SUBNET_ROUTER)
    assert router.frames(router.eth0) == []
    router.engine.run(PROXY_DELAY)
    sent = router.timed(router.eth0)
    assert [frame for _, frame in sent] == [said(SUBNET_ROUTER, IS_ROUTER | SOLICITED, src=ROUTER06)]
    assert 0 < sent[0][0] <= PROXY_DELAY


def test_a_host_has_no_subnet_router_address() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.conf.all.forwarding", 0)
    ask(router, SUBNET_ROUTER)
    router.engine.run(2 * SECOND)
    assert router.frames(router.eth0) == []


def proxying(where: str = "all") -> Router6:
    router = Router6()
    router.engine.set_sysctl(router.ns, f"net.ipv6.conf.{where}.proxy_ndp", 1)
    router.engine.add_proxy(router.eth0, ip6(PROXIED))
    return router


@pytest.mark.parametrize("where", ["all", "eth0"])
def test_a_proxied_address_is_advertised_after_a_while(where: str) -> None:
    """As no router's (the entry has no NTF_ROUTER) and without override (RFC 4861 7.2.8)."""
    router = proxying(where)
    ask(router, PROXIED)
    assert router.frames(router.eth0) == []
    router.engine.run(PROXY_DELAY)
    assert router.frames(router.eth0) == [said(PROXIED, SOLICITED, src=ROUTER06)]


def test_without_proxy_delay_it_is_advertised_at_once() -> None:
    router = proxying()
    router.engine.set_sysctl(router.ns, "net.ipv6.neigh.eth0.proxy_delay", 0)
    ask(router, PROXIED)
    assert router.frames(router.eth0) == [said(PROXIED, SOLICITED, src=ROUTER06)]


def test_a_question_to_the_proxied_address_itself_is_answered_at_once() -> None:
    """ip6_forward_proxy_check() takes Neighbour Discovery to a proxied address in, if net.ipv6.conf.all.proxy_ndp is on."""
    router = proxying()
    ask(router, PROXIED, unicast=True)
    assert router.frames(router.eth0) == [said(PROXIED, SOLICITED, src=ROUTER06, with_link=False)]


@pytest.mark.parametrize("off", ["net.ipv6.conf.all.proxy_ndp", "net.ipv6.conf.all.forwarding"])
def test_who_does_not_forward_or_proxy_stays_silent(off: str) -> None:
    router = proxying()
    router.engine.set_sysctl(router.ns, off, 0)
    ask(router, PROXIED)
    router.engine.run(2 * SECOND)
    assert router.frames(router.eth0) == []


def test_a_proxy_entry_is_for_its_device_and_until_it_goes() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.conf.all.proxy_ndp", 1)
    router.engine.add_proxy(router.eth1, ip6(PROXIED))
    ask(router, PROXIED)
    router.engine.run(2 * SECOND)
    assert router.frames(router.eth0) == []
    router.engine.add_proxy(router.eth0, ip6(PROXIED))
    assert router.engine.del_proxy(router.eth0, ip6(PROXIED))
    assert not router.engine.del_proxy(router.eth0, ip6(PROXIED))
    ask(router, PROXIED)
    router.engine.run(router.engine.now + 2 * SECOND)
    assert router.frames(router.eth0) == []


def test_two_proxied_addresses_may_share_a_group() -> None:
    router = proxying()
    neighbour = "2001:db8:0:0:1::77"  # the same lowest 24 bits
    router.engine.add_proxy(router.eth0, ip6(neighbour))
    router.engine.del_proxy(router.eth0, ip6(neighbour))
    ask(router, PROXIED)
    router.engine.run(PROXY_DELAY)
    assert router.frames(router.eth0) == [said(PROXIED, SOLICITED, src=ROUTER06)]


# ---- router discovery


def test_a_router_learns_who_looks_for_routers() -> None:
    """It answers nothing: router advertisements are a daemon's work."""
    router = Router6()
    packet = icmpv6_packet(ROUTER_SOLICITATION, payload=link_option(SOURCE_LINK, ASKER_MAC), src=ASKER, dst="ff02::2", hops=255)
    router.take(packet, dst=group_mac("ff02::2"))
    assert router.frames(router.eth0) == []
    assert router.neighbour(ASKER) == ("stale", ASKER_MAC)
