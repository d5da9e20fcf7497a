"""Encapsulations compiled by Numba: the sample, what goes wrong in one, and what cannot be compiled."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dataplane import _core
from dataplane._core import Codec, EncapDrop, encap_options
from dataplane.encap import registry
from dataplane.encap.numba_plugin import NumbaEncapsulation, Number, grow, shrink
from dataplane.errors import InputError
from encap.samples import FOLDER, offered
from encap.tunnel_packets import ENDS4, IPV4, IPV6, PACKET4, PACKETS, around, ends, payload

PROTOCOL = 253  # for experiments (RFC 3692)


def tag(protocol: int, number: int, magic: int = 0x7A00) -> bytes:
    """The sample's header by its description."""
    return struct.pack("!HHI", magic, protocol, number)


@pytest.fixture(scope="module")
def tagged() -> Codec:
    return Codec(offered("numba_tag"), {"tag": 0x01020304})


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", [IPV4, IPV6])
def test_the_sample_writes_and_reads_its_header(tagged: Codec, family: int, protocol: int) -> None:
    packet = tagged.push(PACKETS[protocol], protocol, *ends(family))
    assert payload(packet) == tag(protocol, 0x01020304) + PACKETS[protocol]
    assert tagged.pop(packet) == (protocol, PACKETS[protocol], 0x01020304, None)
    assert tagged.port == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (tag(IPV4, 0x01020304)[:7], "numba_tag/truncated"),
        (tag(IPV4, 0x01020304) + PACKET4[:19], "numba_tag/truncated"),
        (tag(IPV4, 0x01020304, magic=0x7B00) + PACKET4, "numba_tag/bad_magic"),
        (tag(0x0806, 0x01020304) + PACKET4, "numba_tag/unknown_protocol"),
        (tag(IPV4, 5) + PACKET4, "tunnel/unknown_id"),
    ],
)
def test_the_sample_refuses_by_name(tagged: Codec, body: bytes, reason: str) -> None:
    assert tagged.pop(around(4, PROTOCOL, body)).reason == reason


def test_lack_of_headroom_is_a_drop(tagged: Codec) -> None:
    with pytest.raises(EncapDrop, match="numba_tag/no_headroom"):
        tagged.push(PACKET4, IPV4, *ENDS4, headroom=7)


@pytest.mark.parametrize("options", [{"tag": -1}, {"tag": 1 << 32}, {"tag": b"1"}, {"label": 1}])
def test_options_are_checked(options: dict[str, int | bytes]) -> None:
    with pytest.raises(ValueError, match=r"^numba_tag: option '\w+' is unknown or its value is out of range$"):
        Codec(offered("numba_tag"), options)


def test_options_are_explained() -> None:
    (option,) = encap_options(offered("numba_tag"))
    assert option == ("tag", "The tag, which tells devices apart, 0 to 4294967295", "0")


# ---- what a function may do wrong

def kind(name: str, **functions: Any) -> Codec:
    """A kind whose devices count in ``seen`` and listen on UDP port 7000; ``push`` or ``pop`` is the test's."""
    given: dict[str, Any] = {"push": nothing, "pop": nothing} | functions
    options = {"port": Number(7000, 1, 65535, "UDP port")}
    made = NumbaEncapsulation(
        name=name, sentence="Of a test", ip_protocols=(PROTOCOL, 17), header=4, options=options, variables=("seen",), **given
    )
    _core.register_encap(made.capsule)
    return Codec(name)


def nothing(state, info, packet):  # type: ignore[no-untyped-def]
    return 0


def outside(state, info, packet):  # type: ignore[no-untyped-def]
    from_module = grow(packet, 4)
    from_module[len(from_module)] = 0
    return 0


def divides(state, info, packet):  # type: ignore[no-untyped-def]
    return 1 // state.seen


def counts(state, info, packet):  # type: ignore[no-untyped-def]
    state.seen += 1
    header = grow(packet, 4)
    header[0:4] = 0
    header[3] = state.seen
    info.ip_protocol = 253
    return 0


def more_than_there_is(state, info, packet):  # type: ignore[no-untyped-def]
    shrink(packet, 1 << 20)
    return 0


def nonsense(state, info, packet):  # type: ignore[no-untyped-def]
    return 77


@pytest.mark.parametrize("function", [outside, divides, more_than_there_is])
def test_an_exception_is_a_drop(function: Any) -> None:
    device = kind(f"push_{function.__name__}", push=function)
    with pytest.raises(EncapDrop, match="/plugin_error"):
        device.push(PACKET4, IPV4, *ENDS4)
    received = kind(f"pop_{function.__name__}", pop=function).pop(around(4, PROTOCOL, b"1234" + PACKET4))
    assert received.reason == f"pop_{function.__name__}/plugin_error"


def test_results_that_the_contract_does_not_have_are_complaints() -> None:
    with pytest.raises(ValueError, match="returned a result that its contract does not have"):
        kind("numba_nonsense", push=nonsense).push(PACKET4, IPV4, *ENDS4)
    with pytest.raises(ValueError, match="wrote more or less than the overhead that it promised"):
        kind("numba_liar", push=nothing).push(PACKET4, IPV4, *ENDS4)


def test_the_state_is_kept_by_each_device() -> None:
    first = kind("numba_counts", push=counts)
    second = Codec("numba_counts", {"port": 7001})
    written = [payload(device.push(PACKET4, IPV4, *ENDS4))[:4] for device in (first, first, second)]
    assert written == [b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\1"]
    assert (first.port, second.port) == (7000, 7001)


BROKEN = """
from dataplane.encap.numba_plugin import NumbaEncapsulation

def push(state, info, packet):
    return info.colour

kind = NumbaEncapsulation(name="broken", sentence="Broken", ip_protocols=(253,), header=8, push=push, pop=push)
"""


def test_what_cannot_be_compiled_is_one_line_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    command = [sys.executable, "-m", "dataplane.cli.main", "encap", "list", "--plugin", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{file}:4: " in done.stderr
    assert "push cannot be compiled" in done.stderr
    assert "colour" in done.stderr


def test_a_second_one_of_the_same_name_is_refused() -> None:
    offered("numba_tag")
    with pytest.raises(InputError, match="an encapsulation named 'numba_tag' is registered already"):
        registry.load_file(FOLDER / "numba_tag.py")


def test_without_numba_a_line_says_what_is_missing() -> None:
    program = "import sys; sys.modules['numba'] = None\nimport dataplane.encap.numba_plugin"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "dataplane.errors.InputError: Numba is not installed: pip install podplane[numba]"
