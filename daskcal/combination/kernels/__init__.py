"""The compiled loops that combine a stack: `combine_block` and what goes in and out of it.

The data's way: `block` (checks, slabs) -> `pixels` (tiles of pixels) -> `tiles` (load) ->
`networks` (sort) -> reject -> `moments` (combine) -> `record` (what was rejected). `rules` names
the rejections: `clip`, `minmax`, `percentile`, `winsorised`, `linear_fit`, `esd`, `averaged`,
`noise_clip`, with `columns` and `marks` for what they share. Only numpy and numba here, and SciPy
for the critical values of `esd`.
"""

from daskcal.combination.kernels.block import Combined, combine_block, new_planes, working_dtype
from daskcal.combination.kernels.rules import Reject

__all__ = ["Combined", "Reject", "combine_block", "new_planes", "working_dtype"]
