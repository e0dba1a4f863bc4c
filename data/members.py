"""Several inputs an example, by their names: what stands where in the one row of numbers that holds them.

One array is what is drawn from, shared and sent to devices; a network or a learner gets the inputs by their names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Member:
    """One input. shape: of an example's; whole: of whole numbers, the largest and one more; None: float32."""

    name: str
    shape: tuple[int, ...]
    whole: int | None = None

    @property
    def size(self) -> int:
        """Numbers that it takes of a row."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        numbers = "a number" if self.whole is None else f"a whole number below {self.whole:,}"
        if not self.shape:
            return f"{self.name} ({numbers})"
        return f"{self.name} ({size}{'' if self.whole is None else f' whole numbers below {self.whole:,}'})"


class Members(tuple[int, ...]):
    """The shape of a row of several inputs, (numbers,), that knows them: `members`."""

    members: tuple[Member, ...]

    def __new__(cls, members: tuple[Member, ...]) -> Members:
        made = super().__new__(cls, (sum(member.size for member in members),))
        made.members = members
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.members,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Members) and self.members == other.members

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.members)

    def __repr__(self) -> str:
        return f"Members({', '.join(map(str, self.members))})"
