"""What a front end does to a recording before the network gets it, as counted operations.

The front end states them (`data.work`), graphs and audits carry them as JSON, counting prices them: none of the three
knows more of the others.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_Count = Annotated[int, Field(ge=0, le=2**53)]
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Stage(BaseModel):
    """One stage of a front end, the same work whatever is heard.

    Attributes:
        name: Of the stage.
        rule: How its operations follow from its sizes, in words.
        additions: Subtractions and comparisons included, each time.
        multiplications: Each time; one that is added to a sum is an addition too, both together a MAC.
        each: What "each time" is: a frame, of which a step has one or several, or a whole recording.
    """

    model_config = _FROZEN

    name: str = Field(max_length=100)
    rule: str = Field(max_length=1000)
    additions: _Count
    multiplications: _Count
    each: Literal["frame", "recording"] = "frame"


class FrontWork(BaseModel):
    """All that comes before the network.

    Attributes:
        title: What the front end is.
        stages: Its work; none where what made the input is not known.
        frames_per_step: Frames in each step.
        not_counted: What else comes before the network and is in no figure.
    """

    model_config = _FROZEN

    title: str = Field(max_length=100)
    stages: Annotated[tuple[Stage, ...], Field(max_length=100)] = ()
    frames_per_step: Annotated[int, Field(ge=1, le=2**20)] = 1
    not_counted: str = Field("", max_length=1000)

    def times(self, stage: Stage, steps: int) -> int:
        """How often a stage runs in a recording of so many steps."""
        return steps * self.frames_per_step if stage.each == "frame" else 1
