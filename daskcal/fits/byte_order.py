"""Numbers as a file holds them become those of this machine, in place and in one pass."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

from typing import Any

from numba.core import types
from numba.core.extending import intrinsic

from daskcal.compiled import compile_cached


@intrinsic
def _swapped(_, word):
    """The bytes of an unsigned integer the other way round."""

    def generate(context, builder, signature, arguments):
        return builder.bswap(arguments[0])

    return types.Integer(word.name)(word), generate


def _swap(words, flip):
    """Turn the bytes of unsigned integers around, and flip those bits of the results."""
    for i in range(words.size):
        words[i] = _swapped(words[i]) ^ flip


def _swap_floats(words, exponent):
    """Turn the bytes of floats around; true where one has all bits of `exponent`: NaN, Inf.

    The floats come as the unsigned integers of their bits.
    """
    found = False
    for i in range(words.size):
        word = _swapped(words[i])
        words[i] = word
        found |= word & exponent == exponent
    return found


swap: Any = compile_cached(_swap)
swap_floats: Any = compile_cached(_swap_floats)
