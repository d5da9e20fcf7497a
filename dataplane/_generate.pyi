"""Types of the compiled frame maker (``ext/generate.pyx``)."""

from collections.abc import Iterable
from typing import final

from typing_extensions import Buffer

@final
class FrameMaker:
    """Makes IPv4 frames of UDP and TCP flows, one direction of each, with right checksums: the same ones for the same arguments.

    Each flow sends one frame in turn; after that they go on in turn or, with random keys, as they are drawn. TCP segments follow
    each other without a gap in their sequence numbers, and begin in the middle of a connection.
    """

    def __new__(
        cls, source_mac: bytes, target_mac: bytes, source: bytes, sources: int, targets: Iterable[tuple[bytes, int]], flows: int, *,
        sizes: Iterable[tuple[int, int]], udp_percent: int = 100, random_keys: bool = False, tcp_flags: int = 0x18, gap: int = 1000,
        seed: int = 0,
    ) -> FrameMaker:
        """``source``: the first of ``sources`` addresses; ``targets``: addresses and ports; ``sizes``: bytes of frames, without frame check
        sequence, with weights; ``udp_percent`` of the flows are UDP; ``random_keys``: ports and addresses of flows are drawn instead
        of counted; ``gap``: ns between two frames. ValueError: something of that cannot be."""
    @property
    def made(self) -> int:
        """Frames so far."""
    def fill(self, data: Buffer, starts: Buffer, lengths: Buffer, times: Buffer) -> int:
        """Make as many frames as there is room for in all four, in the form that ``Engine.carry`` takes; how many."""
    def records(self, data: Buffer, most: int) -> tuple[int, int]:
        """Make up to ``most`` records of a little-endian nanosecond pcap file; how many, and their bytes."""
