"""How many pixels of a message are looked at for QR codes; apart from the decoders, which are loaded when needed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PixelBudget:
    """How many more pixels are looked at in a message; a count and not a clock, so that results are repeatable.

    Attributes:
        left: Pixels that are left.
    """

    left: int

    def take(self, pixels: int) -> bool:
        """Take pixels out of the budget; tell whether there were as many."""
        if pixels > self.left:
            return False
        self.left -= pixels
        return True


SPENT = "the message has more pixels than are looked at for QR codes; the rest was not looked at"
"""What is said where the budget is used up."""
