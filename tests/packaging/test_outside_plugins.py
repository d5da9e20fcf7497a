"""Encapsulations outside of the tree: the samples alone are copied, built against what an installed package offers; they carry packets.

What would be installed is put into a folder of its own. The samples are built by pip, as a user does, and found by their entry points.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from control.clusters import cluster, node, pod

pytestmark = [pytest.mark.house, pytest.mark.slow]

PROTOCOL = 253  # for experiments (RFC 3692)
INNER = bytes(IP(src="10.1.1.2", dst="10.1.2.2", ttl=9, tos=0x20) / UDP(sport=4000, dport=9) / b"inside")
CODEC = """
import sys
from dataplane import _core
from dataplane.encap import registry
kind, inner = sys.argv[1], bytes.fromhex(sys.argv[2])
registry.ensure(kind)
device = _core.Codec(kind, {"tag": 0x01020304})
packet = device.push(inner, 0x0800, bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)))
print(packet.hex())
assert device.pop(packet) == (0x0800, inner, 0x01020304, None)
refused = [device.pop(packet[:20] + bytes((byte,)) + packet[21:]).reason for byte in range(256) if byte != 0x7A]
print(set(refused), _core.Codec(kind).pop(packet).reason)
"""
CLUSTER = """
import sys
from dataplane import Cluster, Emulator
emulator = Emulator(Cluster.load(sys.argv[1]))
emulator.send("pod/default/a", bytes.fromhex(sys.argv[2]))
emulator.run()
for frame in emulator.frames:
    if (frame.interface, frame.direction) in (("n1/eth0", "out"), ("b/eth0", "in")):
        print(frame.interface, frame.data.hex())
"""


def python(*arguments: str, folder: Path, path: str) -> str:
    """What a program prints that finds ``path`` and the installed libraries, and is in another folder than ours."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DATAPLANE_")} | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel holds: compiled modules and headers, and nothing of the sources."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(target)]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    for module in (checkout / "dataplane").glob("*.so"):
        shutil.copy(module, target / "dataplane")
    return target


@pytest.fixture(params=["cython_tag", "c_tag"])
def built(request: pytest.FixtureRequest, checkout: Path, installed: Path, tmp_path: Path) -> tuple[str, str]:
    """The sample's name, and the search path on which it and dataplane are."""
    kind: str = request.param
    shutil.copytree(checkout / "docs" / "samples" / kind, tmp_path / "sample")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    python("-m", "pip", "install", *options, "--target", str(tmp_path / "site"), ".", folder=tmp_path / "sample", path=str(installed))
    return kind, os.pathsep.join((str(installed), str(tmp_path / "site")))


def test_packets_pass_through_it_alone(built: tuple[str, str], tmp_path: Path) -> None:
    kind, path = built
    printed, refused = python("-c", CODEC, kind, INNER.hex(), folder=tmp_path, path=path).splitlines()
    packet = IP(bytes.fromhex(printed))
    assert (packet.src, packet.dst, packet.proto, packet.tos, packet.ttl) == ("192.0.2.1", "192.0.2.2", PROTOCOL, 0x20, 64)
    assert bytes(packet.payload) == struct.pack("!HHI", 0x7A00, 0x0800, 0x01020304) + INNER
    assert refused == f"{{'{kind}/bad_magic'}} tunnel/unknown_id"


def test_a_cluster_carries_its_packets_in_it(built: tuple[str, str], tmp_path: Path) -> None:
    kind, path = built
    cni = {"name": "flannel", "config": {"Network": "10.1.0.0/16", "Backend": {"Type": kind, "tag": 77}}}
    objects = [cluster(cni=cni, neighbours="static"), node(1), node(2), pod("a", "n1", "10.1.1.2"), pod("b", "n2", "10.1.2.2")]
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump_all(objects))
    seen = dict(line.split() for line in python("-c", CLUSTER, "cluster.yaml", INNER.hex(), folder=tmp_path, path=path).splitlines())
    outer = Ether(bytes.fromhex(seen["n1/eth0"]))[IP]
    assert (outer.src, outer.dst, outer.proto) == ("192.168.0.1", "192.168.0.2", PROTOCOL)
    assert bytes(outer.payload)[:8] == struct.pack("!HHI", 0x7A00, 0x0800, 77)
    assert bytes(Ether(bytes.fromhex(seen["b/eth0"]))[UDP].payload) == b"inside"
    assert Ether(bytes.fromhex(seen["b/eth0"]))[IP].ttl == 7  # two nodes forwarded it


def test_the_sample_sees_nothing_of_our_sources(built: tuple[str, str], installed: Path, tmp_path: Path) -> None:
    kind, path = built
    program = f"import dataplane, {kind}; print(dataplane.__file__, dataplane.get_include(), {kind}.__file__, sep='\\n')"
    package, include, plugin = map(Path, python("-c", program, folder=tmp_path, path=path).splitlines())
    assert package.is_relative_to(installed)
    assert include.is_relative_to(installed)
    assert plugin.is_relative_to(tmp_path)
