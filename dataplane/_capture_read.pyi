"""Types of the compiled capture reader (``ext/capture_read.pyx``): packets found and made frames, many at a time."""

from array import array
from collections.abc import Iterable
from typing import final

from typing_extensions import Buffer

DONE: int
"""``Fitter.fit``: all packets were taken."""
ASK_HOP: int
"""``Fitter.fit``: ``Fitter.answer`` is due for the address ``Fitter.asked``; then go on with the same packet."""
ASK_FRAME: int
"""``Fitter.fit``: this packet is to be fitted in Python; then go on with the next one."""
FIRST_ADDRESS: int
"""Numbers of reasons below it: 0 cut by the snap length, 1 shorter than an Ethernet header, 2 not IP, 3 longer than the MTU."""

@final
class Batch:
    """Where packets stand in the bytes of a capture, and what the file says of them."""

    def __new__(cls, capacity: int, most_bytes: int) -> Batch:
        """Of up to ``capacity`` packets, and none after they have ``most_bytes`` together."""
    @property
    def first(self) -> int:
        """Number of its first packet."""
    def __len__(self) -> int: ...
    def clear(self, first: int) -> None: ...
    def packet(self, i: int) -> tuple[int, int, int, int, int]:
        """Offset, length, length on the wire, nanoseconds since the epoch and link type. IndexError."""
    def append(self, start: int, length: int, orig: int, time: int, link: int) -> None:
        """ValueError: it is full."""
    def index_pcap(self, data: Buffer, offset: int, big_endian: bool, unit: int, link: int, fcs: int) -> int:
        """Append records of a pcap file from ``offset`` on until the batch is full, or something is wrong; where that is. ``unit``:
        nanoseconds of the second timestamp field, ``fcs``: bytes of a frame check sequence behind each frame."""
    def index_pcapng(self, data: Buffer, offset: int, big_endian: bool, interfaces: Buffer, time: int) -> int:
        """Append packets of pcapng blocks from ``offset`` on until the batch is full, or a block of another kind needs a closer look;
        where that is. ``interfaces``: the section's, rows of ``Interface`` of ``ext/capture/index.pxd``; ``time``: of the packet before."""

@final
class Frames:
    """Frames ready for ``Engine.carry``: frame i is the ``lengths[i]`` bytes of ``data`` from ``starts[i]`` on, at ``times[i]``."""

    def __new__(cls, capacity: int) -> Frames:
        """For batches of up to ``capacity`` packets."""
    @property
    def data(self) -> Buffer: ...
    @property
    def starts(self) -> array[int]: ...
    @property
    def lengths(self) -> array[int]: ...
    @property
    def times(self) -> array[int]: ...
    def __len__(self) -> int:
        """How many; the arrays are longer."""
    def add(self, frame: bytes, time: int) -> None:
        """ValueError: no room."""
    def note_unfit(self, reason: int, number: int) -> None:
        """Packet ``number`` is not among them. ValueError: no room."""
    def unfit(self) -> list[tuple[int, int, int]]:
        """Reason, first and last number of each run of packets that are not among them."""

@final
class Fitter:
    """Makes packets the frames of one machine, as ``FrameFitter`` of ``dataplane/traffic/fitter.py`` makes them."""

    def __new__(cls, mac: bytes, rewrites: bool, most: int, rules: Iterable[tuple[bytes, bytes, bytes, bool]]) -> Fitter:
        """``mac``: the machine's; ``rewrites``: MAC addresses change; ``most``: bytes of a frame without VLAN tag; ``rules``: addresses,
        mask, what they become, and whether the part outside of the mask stays, the first that fits decides. ValueError."""
    @property
    def asked(self) -> bytes:
        """The address whose next hop is not known."""
    def answer(self, address: bytes, mac: bytes, unfit: int = -1) -> None:
        """The next hop's MAC for an address, or the number of the reason why there is none. ValueError: wrong lengths."""
    def begin(self, data: Buffer, batch: Batch, frames: Frames) -> None:
        """Empty ``frames`` for a batch of packets in ``data``. ValueError: too many."""
    def fit(self, data: Buffer, batch: Batch, frames: Frames, i: int, start: int, zero: int,
            skipped: bytes | None = None) -> tuple[int, int]:
        """Go on with packet ``i``; what is asked (DONE, ASK_HOP, ASK_FRAME) and of which packet. Times are as long after ``start`` as in
        the capture after ``zero``; ``skipped`` has a 1 for each packet that is left out. ValueError: a packet lies outside of the data,
        or ``begin`` was not called."""
