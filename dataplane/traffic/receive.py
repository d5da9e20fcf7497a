"""What a TCP connection has received: in order, and beyond a hole."""

from __future__ import annotations

WINDOW = 1 << 20  # positions past the next one that are taken: more than any window we advertise
_MOST_BLOCKS = 3  # what fits beside timestamps, RFC 2018 3


class ReceiveQueue:
    """Reassembles a byte stream. Positions: 0 is the SYN, data byte n is n + 1, the FIN follows the last."""

    def __init__(self) -> None:
        self.next = 0  # the position that is wanted next
        self._held: dict[int, bytes] = {}  # beyond a hole, by first position
        self._latest = -1  # first position of what was held last
        self._fin_at: int | None = None

    def take_syn(self) -> None:
        self.next = 1

    def is_acceptable(self, position: int, length: int) -> bool:
        """RFC 9293 3.4: some of the segment, or an empty one's own place, is in the window."""
        if length == 0:
            return self.next <= position < self.next + WINDOW
        return position < self.next + WINDOW and position + length > self.next

    def add(self, position: int, data: bytes, *, is_fin: bool) -> bytes:
        """Take in an acceptable segment's data; what is now in order and was not before."""
        if is_fin:
            self._fin_at = position + len(data)
        if position > self.next:
            if data:
                self._held[position] = max(data, self._held.get(position, b""), key=len)
                self._latest = position
            return b""
        ready = [data[self.next - position :]]
        self.next += len(ready[0])
        for start in sorted(self._held):
            if start > self.next:
                break
            rest = self._held.pop(start)[self.next - start :]
            ready.append(rest)
            self.next += len(rest)
        return b"".join(ready)

    def take_fin(self) -> bool:
        """Whether the FIN is next; it is then taken, once."""
        if self._fin_at is None or self._fin_at != self.next:
            return False
        self.next += 1
        return True

    def blocks(self) -> tuple[tuple[int, int], ...]:
        """What is held, as SACK blocks (left, right edge): the most recent first, then the others from the left."""
        merged: list[tuple[int, int]] = []
        for start in sorted(self._held):
            end = start + len(self._held[start])
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        merged.sort(key=lambda block: not block[0] <= self._latest < block[1])
        return tuple(merged[:_MOST_BLOCKS])
