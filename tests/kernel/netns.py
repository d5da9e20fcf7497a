"""Network namespaces by name: entering them, running commands in them, settings and offloads of devices.

Everything here needs root and Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import fnmatch
import os
import platform
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence

CLONE_NEWNET = 0x40000000
KERNEL = (6, 18)
SIOCETHTOOL = 0x8946
# ETHTOOL_S* commands of linux/ethtool.h: receive and transmit checksum, scatter-gather, TSO, GSO, GRO
OFFLOAD_SETTERS = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
RESTORE_TOOLS = ("iptables-nft-restore", "ip6tables-nft-restore")
TOOLS = ("ip", "bridge", "conntrack", *RESTORE_TOOLS, "nsenter", "sh")

_libc = ctypes.CDLL(None, use_errno=True)
_home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class CommandError(Exception):
    """A command that sets the cluster up was refused."""


def unavailable() -> str | None:
    """Why this machine cannot be the oracle; None if it can."""
    release = tuple(int(n) for n in platform.release().split(".")[:2])
    if release < KERNEL:
        return f"Linux {platform.release()}: we follow {KERNEL[0]}.{KERNEL[1]}, and kernels before it do some things otherwise"
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"missing tools: {', '.join(missing)}"
    name = f"dp{os.getpid()}-probe"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if probe.returncode:
        return f"no network namespaces: {probe.stderr.strip()}"
    try:
        batch(
            name,
            "ip",
            [
                "link add probe0 type veth peer name probe1",
                "link add probe2 type bridge",
                "link add probe3 type vxlan id 1 dstport 8472 dev probe0",
            ],
        )
        for tool in RESTORE_TOOLS:
            run(
                name,
                [tool],
                "*nat\n-A POSTROUTING -m addrtype --src-type LOCAL -m statistic --mode random --probability 0.5 "
                "-m recent --name probe --set -m conntrack --ctstate NEW -j MASQUERADE\nCOMMIT\n",
            )
        with entered(name):
            if not os.path.exists("/proc/sys/net/bridge/bridge-nf-call-ip6tables"):
                return "no bridge netfilter in this kernel (module br_netfilter)"
    except CommandError as error:
        return f"this kernel lacks what the cluster needs: {error}"
    finally:
        remove(name)
    return None


def remove(name: str) -> None:
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def names(prefix: str) -> list[str]:
    """All namespaces whose name starts with ``prefix``."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(n for n in os.listdir("/run/netns") if n.startswith(prefix))
    return []


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """The calling thread (and the processes it starts) is in namespace ``name``."""
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {name}")
        yield
    finally:
        _libc.setns(_home, CLONE_NEWNET)
        os.close(fd)


def run(name: str, command: str | Sequence[str], text: str | None = None) -> str:
    """Run a shell command (or an argument list) in a namespace, ``text`` on its standard input; returns its output."""
    argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
    with entered(name):
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"[{name}] {command}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def batch(name: str, tool: str, lines: Sequence[str]) -> None:
    """Many ``ip`` or ``bridge`` commands in one process."""
    if lines:
        run(name, [tool, "-batch", "-"], "\n".join(lines) + "\n")


def batch_global(lines: Sequence[str]) -> None:
    """The same for ``ip`` commands that are not about one namespace."""
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(done.stderr.strip())


def set_sysctls(name: str, patterns: Mapping[str, int]) -> None:
    """Dotted names in which ``*`` stands for device names, and ``/`` for a dot inside one; the most specific pattern is applied last."""
    with entered(name):
        for pattern, value in sorted(patterns.items(), key=lambda item: (len(item[0].replace("*", "")), item[0])):
            for path in _sysctl_paths(pattern.split(".")):
                with open(path, "w") as file:
                    file.write(str(value))


def _sysctl_paths(parts: Sequence[str]) -> list[str]:
    """Files under /proc/sys that match, walked part by part because a device's name may hold a dot."""
    found = ["/proc/sys"]
    for part in parts:
        found = [
            os.path.join(d, e)
            for d in found
            for e in ([part.replace("/", ".")] if "*" not in part else sorted(os.listdir(d)))
            if fnmatch.fnmatchcase(e, part)
        ]
    return found


def offloads_off(name: str) -> None:
    """No checksum or segmentation offload on any device of the namespace: taps then see bytes as on a wire."""
    with entered(name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, device in socket.if_nameindex():
            if device == "lo":
                continue
            for command in OFFLOAD_SETTERS:
                value = ctypes.create_string_buffer(struct.pack("II", command, 0))
                request = struct.pack("16sP", device.encode(), ctypes.addressof(value))
                with contextlib.suppress(OSError):  # a device without that offload
                    fcntl.ioctl(sock, SIOCETHTOOL, request)
