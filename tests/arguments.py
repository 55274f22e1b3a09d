"""Numbers on a command line of argparse: what makes no sense is refused with what would, as click's ranges do."""

import argparse
import math
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """Read a whole number from `least` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {least} on")
        return number

    return read


def more_than_0(text: str) -> float:
    """Read a number above 0, such as a rate or seconds."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return number
