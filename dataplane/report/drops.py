"""Why frames were dropped, counted by reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from dataplane.report.resources import place_of
from dataplane.report.tables import NONE, Listing, Row
from dataplane.report.world import World

if TYPE_CHECKING:
    from dataplane._core import Drop, DropReason


def drops(world: World, namespaces: Collection[int] | None, *, with_unseen: bool = False) -> Listing:
    """The reasons of all drops in ``namespaces`` (None: everywhere), in the order of the core's list.

    ``with_unseen``: every reason that the core knows, those that dropped nothing too.
    """
    from dataplane._core import drop_reasons

    by_reason: dict[int, list[Drop]] = {}
    for drop in world.drops:
        if namespaces is None or drop.namespace in namespaces:
            by_reason.setdefault(drop.reason, []).append(drop)
    rows = [
        _row(world, reason, by_reason.get(number, []))
        for number, reason in enumerate(drop_reasons())
        if reason.name and (with_unseen or number in by_reason)  # the core's numbers have gaps
    ]
    return Listing("drop", ("REASON", "COUNT", "SENTENCE", "LINUX"), ("PLACES", "ORIGINS"), rows)


def _row(world: World, reason: DropReason, found: Sequence[Drop]) -> Row:
    topology = world.topology
    places = list(
        dict.fromkeys(topology.device_name(drop.device) if drop.device >= 0 else topology.namespace_name(drop.namespace) for drop in found)
    )
    origins = list(dict.fromkeys(place_of(origin) for drop in found if (origin := topology.origin(drop.origin))))
    data = {
        "kind": "DropReason",
        "reason": reason.name,
        "count": len(found),
        "sentence": reason.sentence,
        "linux": reason.linux or None,
        "places": places,
        "origins": origins,
    }
    cells = (reason.name, str(len(found)), reason.sentence, reason.linux or NONE)
    return Row(reason.name, cells, (",".join(places) or NONE, ",".join(origins) or NONE), data)
