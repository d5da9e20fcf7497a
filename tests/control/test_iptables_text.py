"""Rules as text: read as iptables reads them, written as iptables-save writes them."""

from __future__ import annotations

import pytest
from hypothesis import given

from control.rule_strategies import rules
from dataplane.control.iptables_parse import parse_rule, split_words, write_rule
from dataplane.errors import InputError


@given(rules(4))
def test_a_written_rule_reads_back_as_the_same_rule(text: str) -> None:
    rule = parse_rule(text, 4)
    assert parse_rule(write_rule(rule), 4) == rule


@given(rules(6))
def test_a_written_ipv6_rule_reads_back_as_the_same_rule(text: str) -> None:
    rule = parse_rule(text, 6)
    assert parse_rule(write_rule(rule), 6) == rule


@pytest.mark.parametrize(
    ("text", "saved"),
    [  # right: what iptables-save 1.8 prints for left
        ("-d 10.0.0.1 -s 10.1.2.3/8 -j DROP", "-s 10.0.0.0/8 -d 10.0.0.1/32 -j DROP"),
        ("--dport 80 -j DROP -p tcp", None),
        ("-p tcp --dport 80 -j DROP", "-p tcp -m tcp --dport 80 -j DROP"),
        ("-p tcp ! --dport :1023", "-p tcp -m tcp ! --dport 0:1023"),
        ("-p tcp --syn", "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN"),
        ("-s 0.0.0.0/0 -p all -j ACCEPT", "-j ACCEPT"),
        ("-m conntrack --ctstate ESTABLISHED,RELATED", "-m conntrack --ctstate RELATED,ESTABLISHED"),
        ("-j MARK --or-mark 0x4000", "-j MARK --set-xmark 0x4000/0x4000"),
        ("-j MARK --xor-mark 0x4000", "-j MARK --set-xmark 0x4000/0x0"),
        ("-j MARK --and-mark 0xff", "-j MARK --set-xmark 0x0/0xffffff00"),
        ("-j MARK --set-mark 0x1/0x2", "-j MARK --set-xmark 0x1/0x3"),
        ("-j REJECT", "-j REJECT --reject-with icmp-port-unreachable"),
        ("-m statistic --mode random --probability 0.3333333333", "-m statistic --mode random --probability 0.33333333349"),
        ("-m recent --name A --set", "-m recent --set --name A --mask 255.255.255.255 --rsource"),
        ("-m comment --comment plain-word_1", "-m comment --comment plain-word_1"),
        ('-m comment --comment "a \\"b\\" c"', '-m comment --comment "a \\"b\\" c"'),
        ("-p icmp --icmp-type echo-request", "-p icmp -m icmp --icmp-type 8"),
        ("-j DNAT --to-destination 10.0.0.1:80-81 -p udp", "-p udp -j DNAT --to-destination 10.0.0.1:80-81"),
    ],
)
def test_rules_are_written_as_iptables_save_writes_them(text: str, saved: str | None) -> None:
    if saved is None:
        with pytest.raises(InputError, match="-p missing before it"):
            parse_rule(text, 4)
    else:
        assert write_rule(parse_rule(text, 4)) == saved


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-m physdev --physdev-in veth1 -j DROP", "physdev is not supported: bridge ports"),
        ("-m hashlimit -j DROP", "unknown match -m hashlimit"),
        ("--frobnicate -j DROP", "unknown option --frobnicate"),
        ("-s 10.0.0.0/33", "not an IPv4 address or prefix"),
        ("-s fd00::1", "not an IPv4 address or prefix"),
        ("-s 10.0.0.1,10.0.0.2", "one per rule"),
        ("-p tcp --dport http", "'http' is not a number"),
        ("-p tcp --dport 70000", "not in 0..65535"),
        ("-p tcp --dport 90:80", "runs backwards"),
        ("-p udp -m tcp --dport 80", "-m tcp needs -p tcp"),
        ("-p tcp ! -m tcp", '"!" cannot stand before -m'),
        ("-j DROP !", 'nothing follows "!"'),
        ("-j DROP -j ACCEPT", "a second target"),
        ("-s 10.0.0.1 -s 10.0.0.2", "given twice"),
        ("-g ACCEPT", "only a chain can be gone to"),
        ("-m recent --name A -j DROP", "exactly one of --set"),
        ("-m recent --rcheck --reap -j DROP", "--reap needs --seconds"),
        ("-m statistic --mode nth --every 2", "use --mode random"),
        ("-m statistic --mode random --probability 1.5", "not in 0..1"),
        ("-m multiport --dports 80", "needs -p tcp, udp or sctp"),
        ("-m conntrack --ctstate OPEN", "unknown ctstate 'OPEN'"),
        ("-m addrtype -j DROP", "needs --src-type or --dst-type"),
        ("-j DNAT", "needs --to-destination"),
        ("-j DNAT --to-destination 10.0.0.1:", "not an address or address and port"),
        ("-j REJECT --reject-with nonsense", "unknown --reject-with nonsense"),
        ('-m comment --comment "open', "unclosed double quote"),
        ("-i an-interface-name-too-long", "not an interface name"),
        ("-p tcp --dport", "needs a value"),
        ("-p udp -j REJECT --reject-with tcp-reset", "needs -p tcp"),
        ("-j DNAT --to-destination 10.0.0.1:80", "needs -p tcp, udp or sctp"),
        ("-m addrtype --dst-type ANYCAST", "unknown IPv4 address type"),
    ],
)
def test_what_is_not_emulated_or_makes_no_sense_is_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_rule(text, 4)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_words_are_split_as_iptables_restore_splits_them() -> None:
    assert split_words(r'-A X --comment "it\'s \"so\" \\ so" it' + "'s") == ["-A", "X", "--comment", 'it\'s "so" \\ so', "it's"]


def test_ipv6_port_unreachable_is_the_default_refusal_of_ip6tables() -> None:
    assert write_rule(parse_rule("-j REJECT", 6)) == "-j REJECT --reject-with icmp6-port-unreachable"
