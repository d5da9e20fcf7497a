"""Random iptables rules, written the many ways that people write them."""

from __future__ import annotations

from hypothesis import strategies as st

ADDRESSES = {
    4: ("10.0.0.1", "10.96.0.0/12", "192.168.1.7/255.255.255.0", "0.0.0.0/0"),
    6: ("fd00::1", "2001:db8::/32", "FD00:0::/64", "::/0"),
}
PORTS = ("80", "0", "65535", "80:90", "1024:")  # no range from 0: iptables-nft writes its inverse as the range above it
STATES = ("NEW", "ESTABLISHED,RELATED", "INVALID", "RELATED,ESTABLISHED", "UNTRACKED,NEW")
TYPES = {4: ("LOCAL", "MULTICAST,BROADCAST", "UNICAST"), 6: ("LOCAL", "MULTICAST,LOCAL")}

ICMP = {
    4: ("-p icmp --icmp-type", ("echo-request", "8", "3/4", "any")),
    6: ("-p icmpv6 --icmpv6-type", ("128", "1/4", "packet-too-big", "neighbor-solicitation", "failed-policy", "unknown-option", "pong")),
}
REJECTS = {4: ("icmp-host-prohibited",), 6: ("adm-prohibited", "icmp6-no-route", "addr-unreach", "policy-fail", "icmp6-reject-route")}


def _maybe_not(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda inverted, text: f"! {text}" if inverted else text, st.booleans(), texts)


def _one(option: str, values: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(values).map(lambda value: f"{option} {value}")


def _some(*options: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Each of the options or not, in the order given."""
    return st.tuples(*(st.one_of(st.just(""), option) for option in options)).map(lambda parts: " ".join(part for part in parts if part))


def _protocols(family: int) -> st.SearchStrategy[str]:
    ports = _some(_maybe_not(_one("--sport", PORTS)), _maybe_not(_one("--dport", PORTS)))
    flags = _some(st.sampled_from(["--syn", "! --syn", "--tcp-flags SYN,FIN FIN", "! --tcp-flags ALL NONE"]))
    with_ports = st.one_of(
        st.tuples(st.just("-p tcp -m tcp"), ports, flags).map(" ".join),
        st.tuples(st.sampled_from(["-m udp -p udp", "-p sctp"]), ports).map(" ".join),
        st.tuples(st.just("-p tcp -m multiport"), _maybe_not(st.sampled_from(["--dports 80,443", "--sports 1:5,7"]))).map(" ".join),
    )
    return st.one_of(st.just(""), with_ports, _one(*ICMP[family]), st.sampled_from(["-p gre", "-p 250", "! -p tcp", "-p ALL"]))


def _matches(family: int) -> st.SearchStrategy[str]:
    text = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
    comment = text.map(lambda text: "-m comment --comment " + '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
    recent = st.sampled_from(["--set", "--rcheck --seconds 10800 --reap", "! --update --seconds 5", "--remove"])
    return _some(
        comment,
        _maybe_not(_one("--ctstate", STATES)).map(lambda text: f"-m conntrack {text}"),
        _maybe_not(_one("--dst-type", TYPES[family])).map(lambda text: f"-m addrtype {text}"),
        _maybe_not(_one("--mark", ("0x4000/0x4000", "7", "0x1/255"))).map(lambda text: f"-m mark {text}"),
        st.floats(0, 1).map(lambda share: f"-m statistic --mode random --probability {share:.10f}"),
        recent.map(lambda what: f"-m recent --name seen {what}"),
    )


def _targets(family: int) -> st.SearchStrategy[str]:
    marks = ("--set-mark 7", "--set-mark 0x1/0xff", "--set-xmark 1/2", "--or-mark 0x4000", "--xor-mark 0x4000", "--and-mark 0xff")
    plain = [
        "",
        "-j ACCEPT",
        "-j DROP",
        "-j RETURN",
        "-j REJECT",
        *(f"-j REJECT --reject-with {kind}" for kind in REJECTS[family]),
        "-j OTHER",
        "-g OTHER",
        '-j LOG --log-prefix "a b "',
    ]
    return st.one_of(st.sampled_from(plain), _one("-j MARK", marks))


def rules(family: int) -> st.SearchStrategy[str]:
    """Texts of rules for table filter; their chain OTHER must exist."""
    addresses = ADDRESSES[family]
    general = _some(
        _maybe_not(_one("-s", tuple(a for a in addresses if not a.endswith("/0")))), _one("--dst", addresses), _one("-i", ("eth0", "cali+"))
    )
    return st.tuples(general, _protocols(family), _matches(family), _targets(family)).map(" ".join)
