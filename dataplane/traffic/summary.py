"""What became of a flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SUMMARY_FIELDS = (
    *("name", "kind", "attempts", "completed", "refused", "timed_out", "failed", "open", "sent", "received", "arrived"),
    *("bytes_sent", "bytes_received", "retransmitted", "rtt_min_ns", "rtt_avg_ns", "rtt_max_ns", "first_error"),
)


@dataclass(slots=True)
class FlowSummary:
    """Counters of one flow, as its originating end and (``arrived``) its answering end saw it.

    An attempt is one echo request, one datagram or one connection. ``attempts`` is the sum of ``completed``, ``refused``,
    ``timed_out``, ``failed`` and of what was still open when the run ended.
    """

    name: str
    kind: str
    attempts: int = 0
    completed: int = 0  # answered (no answer wanted: no error came back); a connection: all data both ways, closed by both ends
    refused: int = 0  # RST to a SYN, or port unreachable
    timed_out: int = 0
    failed: int = 0  # anything else: another ICMP error, reset after the handshake, no route, no free port
    sent: int = 0  # packets; of a connection: segments, retransmitted ones too
    received: int = 0
    arrived: int = 0  # requests that reached an application at the other end
    bytes_sent: int = 0  # application data, each byte once
    bytes_received: int = 0
    retransmitted: int = 0  # segments
    rtt_count: int = 0  # ping and UDP: request to answer; TCP: SYN to SYN-ACK, unless one was retransmitted
    rtt_min_ns: int | None = None
    rtt_max_ns: int | None = None
    rtt_sum_ns: int = 0
    first_error: str | None = None

    @property
    def open(self) -> int:
        return self.attempts - self.completed - self.refused - self.timed_out - self.failed

    @property
    def rtt_avg_ns(self) -> int | None:
        return self.rtt_sum_ns // self.rtt_count if self.rtt_count else None

    def add_rtt(self, ns: int) -> None:
        self.rtt_count += 1
        self.rtt_sum_ns += ns
        self.rtt_min_ns = ns if self.rtt_min_ns is None else min(self.rtt_min_ns, ns)
        self.rtt_max_ns = ns if self.rtt_max_ns is None else max(self.rtt_max_ns, ns)

    def note_error(self, reason: str) -> None:
        """Remember the first error of the flow, such as ``ICMP port unreachable (type 3 code 3) from 10.0.0.1``."""
        self.first_error = self.first_error or reason

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every counter, RTTs in ns (null where none was measured)."""
        return {name: getattr(self, name) for name in SUMMARY_FIELDS}
