"""Drops that are counted together: which reason, where, and the manifest line that decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dataplane._core import drop_reason_numbers, drop_reasons
from dataplane.control.topology import Topology
from dataplane.k8s.objects import Origin

if TYPE_CHECKING:
    from dataplane._core import Drop, DropReason


class DropKind(NamedTuple):
    """Drops that are counted together."""

    reason: str  # <stage>/<fact>
    sentence: str
    place: str  # node1/eth0, or the namespace alone
    origin: Origin | None  # the manifest line that decided

    @property
    def line(self) -> str:
        """The comment of such a drop."""
        return f"{self.reason}: {self.sentence}{f' [{self.origin}]' if self.origin else ''}"


class DropKinds:
    """Kinds of a cluster's drops."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._reasons = drop_reasons()
        self._by_number = dict(zip(drop_reason_numbers(), self._reasons, strict=True))

    def of(self, drop: Drop) -> DropKind:
        return self._kind(self._reasons[drop.reason], drop.namespace, drop.device, drop.origin)

    def by_number(self, number: int, namespace: int, device: int, origin: int) -> DropKind:
        """Of a ``DropRecord``, whose reasons have the numbers of ``drop_reason_numbers()``."""
        return self._kind(self._by_number[number], namespace, device, origin)

    def _kind(self, reason: DropReason, namespace: int, device: int, origin: int) -> DropKind:
        place = "?"
        if device >= 0:
            place = self._topology.device_name(device)
        elif namespace >= 0:
            place = self._topology.namespace_name(namespace)
        return DropKind(reason.name, reason.sentence, place, self._topology.origin(origin))
