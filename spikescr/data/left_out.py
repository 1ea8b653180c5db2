"""Recordings that cannot be read: they are told by name and left out, as long as most of what was asked for is left."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from spikescr.errors import DataError

if TYPE_CHECKING:
    from spikescr.data.dataset import DataSet

MOST = 0.5
"""Share of a split that may be left out; where more cannot be read, something else is wrong than some files."""
TOLD = 10
"""So many are told on the screen."""

logger = logging.getLogger(__name__)


def require_enough(left_out: Mapping[str, str], count: int) -> None:
    """Refuse to go on with too little, and tell what is left out.

    Args:
        left_out: Name and fault of each recording that cannot be read.
        count: Recordings in all that were asked for.

    Raises:
        DataError: More than `MOST` of them cannot be read, or none can.
    """
    if not left_out:
        return
    faults = list(left_out.values())
    if count == 1:
        raise DataError(faults[0])
    if len(faults) > MOST * count or len(faults) == count:
        raise DataError(
            f"{len(faults)} of {count} recordings cannot be read, the first: {faults[0]}; mend or remove them: "
            "spikescr data check lists all"
        )
    logger.warning("%d of %d recordings cannot be read and are left out:", len(faults), count)
    for fault in faults[:TOLD]:
        logger.warning("left out: %s", fault)
    if len(faults) > TOLD:
        logger.warning("and %d more; spikescr data check lists all", len(faults) - TOLD)


def require_enough_to_train(left_out: Mapping[str, str], dataset: DataSet) -> None:
    """Do the same for a training split, and tell which classes lose all their recordings.

    Raises:
        DataError: As `require_enough`.
    """
    items = dataset.split("train")
    require_enough(left_out, len(items))
    unheard = {item.label for item in items} - {item.label for item in items if item.name not in left_out}
    if unheard:
        names = ", ".join(dataset.classes[label] for label in sorted(unheard))
        logger.warning("no training recording can be read of: %s", names)
