"""Where a fuzzer's choices come from: a seed, hypothesis, or the bytes that atheris gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Draws(Protocol):
    """A source of choices."""

    def whole(self, low: int, high: int) -> int:
        """A number from low to high, both included."""

    def one(self, options: Sequence[T]) -> T:
        """One of the options."""


class Seeded:
    """Choices of a seed, the same every time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def whole(self, low: int, high: int) -> int:
        """See Draws."""
        return self._random.randint(low, high)

    def one(self, options: Sequence[T]) -> T:
        """See Draws."""
        return options[self._random.randrange(len(options))]


class Drawn:
    """Choices of hypothesis, which it makes smaller where they show a fault."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def whole(self, low: int, high: int) -> int:
        """See Draws."""
        from hypothesis import strategies as st

        return int(self._data.draw(st.integers(low, high)))

    def one(self, options: Sequence[T]) -> T:
        """See Draws."""
        return options[self.whole(0, len(options) - 1)]


class Guided:
    """Choices from bytes, as atheris varies them by what code they reach."""

    def __init__(self, data: bytes) -> None:
        import atheris

        self._bytes = atheris.FuzzedDataProvider(data)

    def whole(self, low: int, high: int) -> int:
        """See Draws."""
        return int(self._bytes.ConsumeIntInRange(low, high))

    def one(self, options: Sequence[T]) -> T:
        """See Draws."""
        return options[self.whole(0, len(options) - 1)]
