"""A slow, obvious twin of the TCP tracker: the rules of Linux' window tracking and state machine, one after the other.

Source: net/netfilter/nf_conntrack_proto_tcp.c (Linux 6.18). Unlike the tracker it keeps numbers in attributes by name,
the state machine as text, and compares sequence numbers by distance.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

MINUTE = 60
TIMEOUTS = {
    "SYN_SENT": 2 * MINUTE,
    "SYN_RECV": MINUTE,
    "ESTABLISHED": 5 * 24 * 60 * MINUTE,
    "FIN_WAIT": 2 * MINUTE,
    "CLOSE_WAIT": MINUTE,
    "LAST_ACK": 30,
    "TIME_WAIT": 2 * MINUTE,
    "CLOSE": 10,
    "SYN_SENT2": 2 * MINUTE,
}
RETRANSMITTED = UNACKNOWLEDGED = 5 * MINUTE
STATES = ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2")
SHORT = dict(zip("no ss sr es fw cw la tw cl s2".split(), STATES, strict=True)) | {"iv": "invalid", "ig": "ignore"}
TABLE = {
    (0, "syn"): "ss ss ig ig ig ig ig ss ss s2",
    (0, "synack"): "iv iv sr iv iv iv iv iv iv sr",
    (0, "fin"): "iv iv fw fw la la la tw cl iv",
    (0, "ack"): "es iv es es cw cw tw tw cl iv",
    (0, "rst"): "iv cl cl cl cl cl cl cl cl cl",
    (1, "syn"): "iv s2 iv iv iv iv iv ss iv s2",
    (1, "synack"): "iv sr ig ig ig ig ig ig ig sr",
    (1, "fin"): "iv iv fw fw la la la tw cl iv",
    (1, "ack"): "iv ig sr es cw cw tw tw cl ig",
    (1, "rst"): "iv cl cl cl cl cl cl cl cl cl",
}
CLOSING = {"FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE"}


def distance(start: int, end: int) -> int:
    """From ``start`` forward to ``end``, between -2**31 and 2**31 - 1: of numbers 2**31 apart the kernel takes each to be the earlier."""
    return (end - start + 2**31) % 2**32 - 2**31


@dataclass(frozen=True)
class Segment:
    flags: str
    seq: int
    ack: int
    win: int
    payload: int = 0
    has_options: bool = False
    scale: int | None = None
    sack_permitted: bool = False
    sack_edges: tuple[int, ...] = ()  # right edges of SACK blocks

    @property
    def end(self) -> int:
        return (self.seq + self.payload + ("S" in self.flags) + ("F" in self.flags)) % 2**32

    @property
    def kind(self) -> str:
        if "R" in self.flags:
            return "rst"
        if "S" in self.flags:
            return "synack" if "A" in self.flags else "syn"
        return "fin" if "F" in self.flags else "ack"


@dataclass
class Side:
    end: int = 0
    max_end: int = 0
    max_win: int = 0
    max_ack: int | None = None
    scale: int = 0
    offers_scale: bool = False
    sack: bool = False
    closed_first: bool = False
    liberal: bool = False
    unacked: bool = False

    def learn_options(self, seg: Segment) -> None:
        if seg.has_options:
            self.scale = min(seg.scale or 0, 14)
            self.offers_scale = seg.scale is not None
            self.sack = seg.sack_permitted
            self.closed_first = self.unacked = False
            self.max_ack = None

    def restart(self, seg: Segment) -> None:
        self.end = self.max_end = seg.end
        self.max_win = max(seg.win, 1)
        self.learn_options(seg)


@dataclass
class Last:
    """The last segment that was in step, or passed unbelieved; seq to win of the last plain ACK or passed segment only."""

    kind: str = "none"
    direction: int = 0
    seq: int = 0
    ack: int = 0
    end: int = 0
    win: int = 0
    options: Side = field(default_factory=Side)
    challenge: bool = False
    simultaneous: bool = False


@dataclass
class Model:
    """``track`` says what ct_tcp_packet says: a verdict and the new timeout in seconds (None: unchanged)."""

    liberal: bool = False
    loose: bool = True
    max_retrans: int = 3
    ignore_invalid_rst: bool = False
    state: str = "NONE"
    sides: tuple[Side, Side] = field(default_factory=lambda: (Side(), Side()))
    last: Last = field(default_factory=Last)
    retrans: int = 0
    assured: bool = False

    def begin(self, seg: Segment) -> bool:
        opener, other = self.sides
        if seg.kind == "syn":
            opener.restart(seg)
            return True
        if seg.kind != "ack" or not self.loose:
            return False
        opener.restart(replace(seg, has_options=False))
        opener.max_end = (opener.max_end + opener.max_win) % 2**32
        opener.sack = other.sack = opener.liberal = other.liberal = True
        return True

    def track(self, direction: int, seg: Segment, replied: bool, remaining: float) -> tuple[str, float | None]:
        old, new = self.state, SHORT[TABLE[direction, seg.kind].split()[STATES.index(self.state)]]
        if new == "invalid":
            return "invalid", None
        if new == "SYN_SENT" and old in ("TIME_WAIT", "CLOSE"):
            if any(side.closed_first for side in self.sides) or (self.last.direction, self.last.kind) == (direction, "rst"):
                return "repeat", None
            new = "ignore"
        if new == "ignore":
            if not self.answers_passed_syn(direction, seg):
                self.note_passed(direction, seg)
                return "ignore", None
            self.resume_from_passed_syn(direction)
            old, new = "SYN_SENT", "SYN_RECV"
        elif self.is_challenge_ack(direction, seg, old, new):
            self.last.challenge = False
            return "ignore", None
        elif new == "SYN_SENT2":
            self.last.simultaneous = True
        elif new == "SYN_RECV" and direction == 1 and seg.kind == "ack" and self.last.simultaneous:
            new = "ESTABLISHED"
        decision = "check"
        if seg.kind == "rst":
            decision, new = self.judge_reset(direction, seg, replied, new)
        if decision == "check":
            decision = self.window(direction, seg)
        if decision == "invalid" and seg.kind in ("rst", "fin"):
            return decision, self.refused_close(direction, seg, remaining)
        if decision in ("invalid rst", "invalid", "ignore"):
            return decision.split()[0], None
        return self.enter(direction, seg, old, new, replied)

    def answers_passed_syn(self, direction: int, seg: Segment) -> bool:
        return seg.kind == "synack" and self.last.kind == "syn" and self.last.direction != direction and seg.ack == self.last.end

    def note_passed(self, direction: int, seg: Segment) -> None:
        last = self.last
        last.kind, last.direction, last.seq, last.end, last.win = seg.kind, direction, seg.seq, seg.end, seg.win
        if seg.kind == "syn" and direction == 0:
            last.options = Side()
            last.options.learn_options(seg)
            last.challenge, last.simultaneous = self.state == "LAST_ACK", False
        if seg.kind == "ack" and direction == 1 and self.state == "SYN_SENT":
            last.ack = seg.ack

    def resume_from_passed_syn(self, direction: int) -> None:
        last, options = self.last, self.last.options
        opener = Side(last.end, last.end, max(last.win, 1), None, options.scale, options.offers_scale, options.sack)
        answerer = Side(liberal=self.sides[direction].liberal)
        self.sides = (opener, answerer) if direction else (answerer, opener)
        last.challenge = False

    def is_challenge_ack(self, direction: int, seg: Segment, old: str, new: str) -> bool:
        passed_syn = self.last.kind == "syn" and self.last.direction != direction and self.last.challenge
        return old == "LAST_ACK" and new == "TIME_WAIT" and seg.kind == "ack" and passed_syn

    def judge_reset(self, direction: int, seg: Segment, replied: bool, new: str) -> tuple[str, str]:
        if self.state in CLOSING:
            return "accept", new
        expected, last = self.sides[1 - direction].max_ack, self.last
        solid = self.state == "ESTABLISHED" and self.assured
        if expected is not None and last.kind != "syn":
            if not solid and seg.seq == 0:
                return "check", new
            if distance(expected, seg.seq) < 0 and not self.ignore_invalid_rst:
                return "invalid rst", new
            follows_data = (last.kind, last.direction, last.end) == ("ack", direction, seg.seq)
            if not solid or seg.seq == expected or follows_data:
                return "check", new
            new = self.state
        refused = (last.kind == "syn" and replied and last.direction != direction) or (last.kind == "ack" and not self.assured)
        if refused and seg.ack == last.end:
            return "accept", new
        if self.state == "SYN_SENT" and (last.kind, last.direction, last.ack) == ("ack", 1, seg.seq):
            return "accept", new
        return "check", new

    def refused_close(self, direction: int, seg: Segment, remaining: float) -> float | None:
        if not self.assured:
            return None
        if self.last.direction != direction and self.last.kind in ("fin", "rst"):
            return UNACKNOWLEDGED if remaining > UNACKNOWLEDGED else None
        self.last.kind, self.last.direction = seg.kind, direction
        return None

    def learn(self, direction: int, seg: Segment, sack: int) -> bool:
        """What a first segment or a new SYN says of its sender. True: nothing else is to be checked."""
        sender, receiver = self.sides[direction], self.sides[1 - direction]
        renewed = "S" in seg.flags and distance(seg.end, sender.end) < 0 and self.state in ("SYN_SENT", "SYN_RECV")
        if sender.max_win and not renewed:
            return False
        if "S" not in seg.flags:
            sender.end = seg.end
            sender.max_win = max(seg.win << sender.scale, 1)
            sender.max_end = (seg.end + sender.max_win) % 2**32
            if not receiver.max_win:
                receiver.end = receiver.max_end = sack
            elif sack == (receiver.end + 1) % 2**32:
                receiver.end = sack
            return False
        first = not sender.max_win
        sender.restart(seg)
        if direction == 1 and not (sender.offers_scale and receiver.offers_scale):
            sender.scale = receiver.scale = 0
        return "A" not in seg.flags and (first or direction == 1)

    def window(self, direction: int, seg: Segment) -> str:
        sender, receiver = self.sides[direction], self.sides[1 - direction]
        sack = seg.ack
        for edge in seg.sack_edges if receiver.sack else ():
            sack = edge if distance(edge, sack) < 0 else sack
        if self.learn(direction, seg, sack):
            return "accept"
        ack, seq, end = seg.ack, seg.seq, seg.end
        if "A" not in seg.flags or ("R" in seg.flags and ack == 0):
            ack = sack = receiver.end
        if seg.kind == "rst" and seq == 0 and self.state == "SYN_SENT":
            seq = end = sender.end
        verdict = self.place(sender, receiver, seq, end, sack)
        if verdict != "inside":
            return "accept" if sender.liberal or self.liberal else verdict
        self.advance(sender, receiver, seg, end, ack, sack)
        if seg.kind == "ack":
            now = (direction, seq, ack, end, seg.win)
            last = self.last
            same = now == (last.direction, last.seq, last.ack, last.end, last.win)
            self.retrans = (self.retrans + 1) % 256 if same else 0
            last.direction, last.seq, last.ack, last.end, last.win = now
        return "accept"

    @staticmethod
    def place(sender: Side, receiver: Side, seq: int, end: int, sack: int) -> str:
        lag = max(sender.max_win, 66000)
        # Written as the kernel compares, for numbers half the space apart are on neither side of each other.
        old_data = distance(end, sender.end - receiver.max_win - 1) >= 0
        old_ack = distance(sack, receiver.end - lag - 1) >= 0
        unseen_ack = distance(receiver.end + 1, sack) >= 0
        if distance(sender.max_end + 1, seq) >= 0:
            fits = (end - sender.max_end + 1) % 2**32 <= receiver.max_win
            if not receiver.max_win or not fits or old_data or old_ack or unseen_ack:
                return "invalid"
            sender.end, sender.unacked = end, True
            return "ignore"
        if unseen_ack:
            return "invalid"
        return "ignore" if (receiver.max_win and old_data) or old_ack else "inside"

    @staticmethod
    def advance(sender: Side, receiver: Side, seg: Segment, end: int, ack: int, sack: int) -> None:
        win = seg.win if "S" in seg.flags else seg.win << sender.scale
        sender.max_win = max(sender.max_win, (win + sack - ack) % 2**32)
        if distance(end, sender.end) < 0:
            sender.end, sender.unacked = end, True
        if "A" in seg.flags and (sender.max_ack is None or distance(ack, sender.max_ack) < 0):
            sender.max_ack = ack
        if receiver.max_win and distance(end, sender.max_end) < 0:
            receiver.max_win = (receiver.max_win + end - sender.max_end) % 2**32
        if distance(receiver.max_end, sack + win) >= 0:
            receiver.max_end = (sack + max(win, 1)) % 2**32
        if ack == receiver.end:
            receiver.unacked = False

    def enter(self, direction: int, seg: Segment, old: str, new: str, replied: bool) -> tuple[str, float | None]:
        self.state, self.last.kind, self.last.direction = new, seg.kind, direction
        if new == "FIN_WAIT" != old:
            self.sides[direction].closed_first = True
        timeout = TIMEOUTS[new]
        if self.retrans >= self.max_retrans and timeout > RETRANSMITTED:
            timeout = RETRANSMITTED
        elif seg.kind == "rst":
            timeout = TIMEOUTS["CLOSE"]
        elif any(side.unacked for side in self.sides):
            timeout = min(timeout, UNACKNOWLEDGED)
        elif self.last.win == 0:
            timeout = min(timeout, RETRANSMITTED)
        if replied:
            self.assured |= old in ("SYN_RECV", "ESTABLISHED") and new == "ESTABLISHED"
        elif seg.kind == "rst":
            return "kill", None
        elif seg.kind == "syn" and old == "SYN_SENT":
            return "accept", None
        elif new == "ESTABLISHED":
            timeout = min(timeout, UNACKNOWLEDGED)
        return "accept", timeout
