"""Tables in memory: commands, restore files and what they refuse."""

from __future__ import annotations

import pytest

from dataplane.control.iptables import IptablesTables
from dataplane.errors import InputError


def rules_of(tables: IptablesTables, chain: str) -> list[str]:
    return [line.removeprefix(f"-A {chain} ") for line in tables.save_text().splitlines() if line.startswith(f"-A {chain} ")]


def test_rules_are_appended_inserted_and_deleted_by_text_and_by_number() -> None:
    tables = IptablesTables()
    tables.append("filter", "INPUT", "-s 10.0.0.1 -j DROP")
    tables.append("filter", "INPUT", "-s 10.0.0.3 -j DROP")
    tables.insert("filter", "INPUT", "-s 10.0.0.2 -j DROP", 2)
    tables.insert("filter", "INPUT", "-s 10.0.0.9 -j DROP")
    tables.delete("filter", "INPUT", "-j DROP --source 10.0.0.3/32")
    tables.delete("filter", "INPUT", "2")
    assert rules_of(tables, "INPUT") == ["-s 10.0.0.9/32 -j DROP", "-s 10.0.0.2/32 -j DROP"]


def test_command_lines_do_what_iptables_does() -> None:
    tables = IptablesTables()
    for line in (
        "iptables -t nat -N WEB",
        "iptables -t nat -A WEB -p tcp -j DNAT --to-destination 10.0.0.1:80",
        "iptables -w -t nat -I PREROUTING -m comment --comment 'to the web' -j WEB",
        "iptables-nft -t nat -I PREROUTING 2 -j RETURN",
        "/usr/sbin/iptables -P FORWARD DROP",
        "iptables --append FORWARD ! -i cni0 -j ACCEPT",
        "iptables -D FORWARD ! -i cni0 -j ACCEPT",
    ):
        tables.command(line)
    assert tables.save_text().splitlines() == [
        "*nat",
        ":PREROUTING ACCEPT [0:0]",
        ":INPUT ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        ":POSTROUTING ACCEPT [0:0]",
        ":WEB - [0:0]",
        '-A PREROUTING -m comment --comment "to the web" -j WEB',
        "-A PREROUTING -j RETURN",
        "-A WEB -p tcp -j DNAT --to-destination 10.0.0.1:80",
        "COMMIT",
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":FORWARD DROP [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        "COMMIT",
    ]


def test_a_chain_can_be_deleted_once_it_is_empty_and_unused() -> None:
    tables = IptablesTables()
    tables.command("iptables -N A")
    tables.command("iptables -A A -j DROP")
    tables.command("iptables -A INPUT -j A")
    with pytest.raises(InputError, match="not empty"):
        tables.command("iptables -X A")
    tables.command("iptables -F A")
    with pytest.raises(InputError, match="still used by chain INPUT"):
        tables.command("iptables -X A")
    tables.command("iptables -F")
    tables.command("iptables -X A")
    assert not tables.has_chain("filter", "A")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("ip6tables -A INPUT -j DROP", "not a command of iptables"),
        ("iptables -A NOWHERE -j DROP", "no chain 'NOWHERE'"),
        ("iptables -A INPUT -j NOWHERE", "no target or user chain 'NOWHERE'"),
        ("iptables -A INPUT -j FORWARD", "no target or user chain 'FORWARD'"),
        ("iptables -t broute -A INPUT -j DROP", "unknown table 'broute'"),
        ("iptables -A INPUT -j DNAT --to-destination 10.0.0.1", "belongs into table nat"),
        ("iptables -t nat -A PREROUTING -j REJECT", "belongs into table filter"),
        ("iptables -D INPUT -j DROP", "no such rule"),
        ("iptables -D INPUT 1", "no number 1"),
        ("iptables -I INPUT 3 -j DROP", "cannot insert number 3"),
        ("iptables -P INPUT REJECT", "must be ACCEPT or DROP"),
        ("iptables -N INPUT", "exists already"),
        ("iptables -N DROP", "taken by a target"),
        ("iptables -L", "no command that is known here"),
        ("iptables -A", "needs a chain"),
        ("iptables -t", "needs a table"),
        ("iptables -A INPUT -m comment --comment 'x", "No closing quotation"),
        ("", "not a command of iptables"),
    ],
)
def test_a_command_that_iptables_would_refuse_is_refused(line: str, complaint: str) -> None:
    tables = IptablesTables()
    with pytest.raises(InputError) as raised:
        tables.command(line)
    assert complaint in str(raised.value)


RESTORE = """# comment
*filter
:INPUT DROP [12:345]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:MINE - [0:0]
[3:180] -A INPUT -j MINE
-A MINE -m comment --comment "a b" -j ACCEPT
COMMIT
"""


def test_restore_replaces_the_tables_that_it_names() -> None:
    tables = IptablesTables()
    tables.append("filter", "OUTPUT", "-j DROP")
    tables.append("raw", "PREROUTING", "-j DROP")
    tables.restore(RESTORE)
    assert rules_of(tables, "OUTPUT") == []
    assert rules_of(tables, "INPUT") == ["-j MINE"]
    assert rules_of(tables, "PREROUTING") == ["-j DROP"]
    assert ":INPUT DROP [0:0]" in tables.save_text()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (RESTORE.replace("-j ACCEPT", "-j NOWHERE"), "line 8: no target or user chain 'NOWHERE'"),
        (RESTORE.removesuffix("COMMIT\n"), "table filter has no COMMIT"),
        ("-A INPUT -j DROP\n", "line 1: no table is open"),
        ("*filter\n*nat\n", "line 2: table filter has no COMMIT"),
        ("*filter\n-X MINE\nCOMMIT\n", "line 2: only -A is known"),
        ("*mine\n", "line 1: unknown table 'mine'"),
        ("*filter\n:INPUT -\n", "line 2: policy of chain INPUT"),
    ],
)
def test_a_restore_that_fails_names_its_line_and_changes_nothing(text: str, complaint: str) -> None:
    tables = IptablesTables()
    tables.append("filter", "OUTPUT", "-j DROP")
    before = tables.save_text()
    with pytest.raises(InputError) as raised:
        tables.restore(text)
    assert complaint in str(raised.value)
    assert tables.save_text() == before
