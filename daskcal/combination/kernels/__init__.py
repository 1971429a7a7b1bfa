"""The compiled loops that combine a stack: `combine_block` and what goes in and out of it.

The data's way: `block` (checks, slabs) -> `pixels` (tiles of pixels) -> `tiles` (load) ->
`networks` (sort) -> `clip` and `marks`, or `minmax` (reject) -> `moments` (combine). Only numpy
and numba here.
"""

from daskcal.combination.kernels.block import Combined, Reject, combine_block, working_dtype

__all__ = ["Combined", "Reject", "combine_block", "working_dtype"]
