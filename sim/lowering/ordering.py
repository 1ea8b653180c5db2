"""Orders of names: in which data flows, and in which people count."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as people do: tap2 before tap10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part)


def in_order(before: Mapping[str, Sequence[str]]) -> list[str]:
    """Each name right before what needs it: depth first from the last ones, what feeds a name before the name.

    Args:
        before: name -> names that feed it, in the order in which they are to come. In a cycle one of them comes late.
    """
    feeding = {source for sources in before.values() for source in sources}
    ends = sorted((name for name in before if name not in feeding), key=natural)
    order: dict[str, None] = {}
    for end in [*ends, *sorted(before, key=natural)]:
        path = [(end, iter(before[end]))] if end not in order else []
        entered = {end}
        while path:
            name, sources = path[-1]
            following = next((s for s in sources if s not in order and s not in entered), None)
            if following is None:
                order[name] = None
                path.pop()
            else:
                entered.add(following)
                path.append((following, iter(before[following])))
    return list(order)
