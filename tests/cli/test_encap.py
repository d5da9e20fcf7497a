"""``dataplane encap``: the list, one encapsulation's options, and packets put in and taken out."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN

from dataplane.capture.open import open_capture
from dataplane.capture.packet import LINKTYPE_ETHERNET
from dataplane.capture.pcapng_write import CaptureWriter, Interface
from dataplane.cli.main import main

INNER = bytes(Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.0.0.1", pdst="10.0.0.2"))
PACKET = bytes(IP(bytes(IP(src="10.0.0.1", dst="10.0.0.2", id=3) / UDP(sport=1, dport=2) / b"data")))
PLUGIN = "from dataplane._encap_vxlan import capsule\n"


class Output(NamedTuple):
    """Exit code and output of one command."""

    status: int
    out: str
    err: str


class Shell:
    """Runs commands with text or bytes as standard input."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str, stdin: str | bytes = "") -> Output:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        status = main(["encap", *arguments])
        return Output(status, *self._capsys.readouterr())


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(capsys, monkeypatch)


def vxlan(vni: int, *, flags: int = 8) -> bytes:
    inner = IP(src="192.0.2.1", dst="192.0.2.2", id=0) / UDP(sport=4000, dport=4789) / VXLAN(vni=vni, flags=flags) / INNER
    return bytes(IP(bytes(inner)))


def test_the_list_names_each_with_its_port_and_overhead(shell: Shell) -> None:
    rows = {line.split()[0]: line for line in shell("list").out.splitlines()}
    # RFC 7348: outer IPv4 20, UDP 8, VXLAN 8; over IPv6 20 more
    assert " ".join(rows["vxlan"].split()).startswith("vxlan Ethernet UDP 4789 36/56 Ethernet frames in UDP")
    assert " ".join(rows["ipip"].split()).startswith("ipip IP IPv4, IPv6 20/40 ")
    (entry,) = [item for item in json.loads(shell("list", "-o", "json").out)["items"] if item["name"] == "vxlan"]
    assert (entry["udpPort"], entry["overhead"]) == (4789, {"ipv4": 36, "ipv6": 56})


def test_one_is_shown_with_its_options_and_drop_reasons(shell: Shell) -> None:
    out = shell("show", "vxlan").out
    assert "RFC 7348" in out.splitlines()[0]
    assert any(line.split()[:2] == ["port", "4789"] for line in out.splitlines())
    assert any(line.split()[:2] == ["vxlan/bad_flags", "VXLAN_INVALID_HDR"] for line in out.splitlines())
    document = json.loads(shell("show", "vxlan", "-o", "json").out)
    assert document["schema"] == "dataplane.encap.show"
    assert {option["key"] for option in document["options"]} >= {"id", "port", "ttl"}


def test_push_writes_what_scapy_would(shell: Shell) -> None:
    output = shell("push", "vxlan", "--set", "id=0x7", "--src", "192.0.2.8", "--dst", "192.0.2.9", stdin=INNER.hex())
    assert output.status == 0
    packet = IP(bytes.fromhex(output.out))
    assert (packet.src, packet.dst, packet[UDP].dport, packet[VXLAN].vni) == ("192.0.2.8", "192.0.2.9", 4789, 7)
    assert bytes(packet[VXLAN].payload) == INNER
    rebuilt = packet.copy()
    del rebuilt.chksum, rebuilt[UDP].chksum
    assert bytes(rebuilt) == bytes.fromhex(output.out)


def test_an_option_may_be_called_by_the_field_it_sets(shell: Shell) -> None:
    by_field, by_option = (shell("push", "vxlan", "--set", setting, stdin=INNER.hex()).out for setting in ("vni=7", "id=7"))
    assert by_field == by_option != shell("push", "vxlan", stdin=INNER.hex()).out
    assert shell("pop", "--set", "vni=8", stdin=by_field).status == 1


def test_bytes_of_an_option_come_from_hexadecimal_or_a_file(shell: Shell, tmp_path: Path) -> None:
    option = bytes.fromhex("0102800100010002")  # class 0x0102, type 0x80, one word of data (RFC 8926 section 3.5)
    (tmp_path / "option").write_bytes(option)
    outputs = [
        shell("push", "geneve", "--set", f"options={value}", stdin=INNER.hex()).out
        for value in (f"hex:{option.hex()}", f"@{tmp_path}/option")
    ]
    assert outputs[0] == outputs[1]
    assert bytes.fromhex(outputs[0])[36:44] == option  # behind IPv4 20, UDP 8 and the fixed header 8
    assert shell("push", "geneve", "--set", "options=@missing", stdin=INNER.hex()).err == (
        "dataplane: --set options=@missing: missing: cannot be read: No such file or directory\n"
    )


def test_pop_prints_the_fields_outer_to_inner(shell: Shell) -> None:
    lines = shell("pop", stdin=vxlan(7).hex()).out.splitlines()
    assert [line.split(":")[0].strip() for line in lines[:5]] == ["packet 1", "ipv4", "udp", "vxlan", "inner"]
    assert "src 192.0.2.1, dst 192.0.2.2" in lines[1]
    assert "sport 4000, dport 4789" in lines[2]
    assert lines[3].strip() == "vxlan: flags 8, reserved1 000000, vni 7, reserved2 0"
    assert lines[4].strip() == "inner: Ethernet frame, 42 bytes: ARP who has 10.0.0.2 tell 10.0.0.1"
    assert lines[5].strip() == INNER.hex()


def test_pop_undoes_push_through_captures(shell: Shell, tmp_path: Path) -> None:
    inner, outer, back = (str(tmp_path / name) for name in ("inner.pcapng", "outer.pcapng", "back.pcapng"))
    with CaptureWriter(inner, [Interface("x", link_type=LINKTYPE_ETHERNET)]) as writer:
        writer.write(0, 0, INNER, True, 1)
    assert shell("push", "vxlan", "-r", inner, "-w", outer).status == 0
    assert [packet.is_l3 for packet in open_capture(outer)] == [True]
    assert shell("pop", "-r", outer, "-w", back).status == 0
    assert [packet.data for packet in open_capture(back)] == [INNER]


def test_packets_keep_their_order_and_comments_are_ignored(shell: Shell) -> None:
    text = f"# two frames\n{vxlan(7).hex(' ')}  # the first\n\n{vxlan(8).hex()}\n"
    document = json.loads(shell("pop", "-o", "json", stdin=text).out)
    assert [packet["number"] for packet in document["packets"]] == [1, 2]
    values = [{(field["layer"], field["name"]): field["value"] for field in packet["fields"]} for packet in document["packets"]]
    assert [value["vxlan", "vni"] for value in values] == [7, 8]
    assert [packet["inner"] for packet in document["packets"]] == [INNER.hex()] * 2


def test_a_tunnel_of_ip_packets_takes_a_frame_without_its_link_header(shell: Shell) -> None:
    frame = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x0800) / PACKET) + bytes(10)  # padded
    for given in (PACKET, frame):
        assert bytes.fromhex(shell("push", "ipip", stdin=given.hex()).out)[20:] == PACKET
    assert shell("pop", "-o", "hex", stdin=shell("push", "ipip", stdin=PACKET.hex()).out).out.strip() == PACKET.hex()


def test_a_refusal_says_which_packet_and_why(shell: Shell) -> None:
    output = shell("pop", "-o", "hex", stdin=f"{vxlan(7).hex()}\n{vxlan(7, flags=0).hex()}\n")
    assert output.status == 1
    assert output.err == "packet 2: refused: vxlan/bad_flags: The VNI flag of the VXLAN header is not set\n"
    assert output.out.strip() == INNER.hex()


@pytest.mark.parametrize(
    ("arguments", "frame", "message"),
    [
        (("push", "ipip"), INNER, "ipip/not_ip: Only IPv4 and IPv6 packets fit into an IP-in-IP tunnel"),
        (("pop", "-o", "hex"), INNER, "it holds no whole IP packet, so it is in no tunnel"),
        (("pop", "-o", "hex"), PACKET, "nothing usual has IP protocol 17 and UDP port 2: name the encapsulation"),
        (("pop", "ipip", "-o", "hex"), vxlan(7), "local/no_protocol: Nobody handles this IP protocol: the sender is told"),
    ],
)
def test_other_packets_of_the_input_are_told_and_passed_over(shell: Shell, arguments: tuple[str, ...], frame: bytes, message: str) -> None:
    good = PACKET if arguments[0] == "push" else bytes(IP(src="192.0.2.1", dst="192.0.2.2", proto=4) / IP(PACKET))
    output = shell(*arguments, stdin=f"{frame.hex()}\n{good.hex()}\n")
    assert output.status == 1
    assert output.err == f"packet 1: refused: {message}\n"
    assert bytes.fromhex(output.out).endswith(PACKET)


def test_another_identifier_is_refused_where_one_is_given(shell: Shell) -> None:
    assert shell("pop", "--set", "id=7", stdin=vxlan(7).hex()).status == 0
    assert shell("pop", "--set", "id=8", stdin=vxlan(7).hex()).status == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("show", "vxlam"), "", "no encapsulation is called vxlam"),
        (("show",), "", "encap show needs the NAME of an encapsulation"),
        (("list", "vxlan"), "", "encap list takes no name"),
        (("push", "vxlan", "--set", "vnj=7"), INNER.hex(), "vxlan: option 'vnj' is unknown"),
        (("push", "vxlan", "--set", "id"), INNER.hex(), "--set id: KEY=VALUE is expected"),
        (("push", "vxlan", "--set", "id=hex:0"), INNER.hex(), "--set id=hex:0: two hexadecimal digits"),
        (("push", "vxlan", "--src", "fd00::1"), INNER.hex(), "give both, of one family"),
        (("push", "vxlan", "--dst", "x"), INNER.hex(), "'x' does not appear to be an IPv4 or IPv6 address"),
        (("push", "vxlan"), "abc\n", "-:1: not a frame in hexadecimal"),
        (("push", "vxlan"), "# nothing\n", "-: holds no frames"),
        (("push", "vxlan"), "", "standard input: the file is empty"),
        (("push", "vxlan"), "ünlesbar", "-: not a pcap or pcapng capture"),
        (("list", "--plugin", "missing.py"), "", "missing.py"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(shell: Shell, arguments: tuple[str, ...], stdin: str, message: str) -> None:
    output = shell(*arguments, stdin=stdin)
    assert output.status == 2
    assert message in output.err
    assert (output.err.count("\n"), output.out) == (1, "")


def test_a_file_of_ones_own_is_loaded(shell: Shell, tmp_path: Path) -> None:
    good, empty, broken = (tmp_path / name for name in ("good.py", "empty.py", "broken.py"))
    good.write_text(PLUGIN)
    empty.write_text("x = 1\n")
    broken.write_text("capsule = 1 / 0\n")
    assert shell("push", "vxlan", "--plugin", str(good), stdin=INNER.hex()).status == 0
    assert "offers no encapsulation" in shell("list", "--plugin", str(empty)).err
    assert "broken.py: ZeroDivisionError" in shell("list", "--plugin", str(broken)).err
