"""Pictures for people: matplotlib's Axes in a notebook, PNGs of frames without matplotlib."""

from daskcal.plot.axes import master_planes, mosaic, pair, show
from daskcal.plot.charts import histogram, levels, rejected_fractions
from daskcal.plot.graph import plan_graph
from daskcal.plot.png import (
    good_sample,
    has_undefined,
    picture,
    rendered,
    side_by_side,
    write_png,
)
from daskcal.plot.shrink import block_means, defined
from daskcal.plot.source import read_image
from daskcal.plot.stretch import STRETCHES, UNDEFINED_COLOUR

__all__ = [
    "STRETCHES",
    "UNDEFINED_COLOUR",
    "block_means",
    "defined",
    "good_sample",
    "has_undefined",
    "histogram",
    "levels",
    "master_planes",
    "mosaic",
    "pair",
    "picture",
    "plan_graph",
    "read_image",
    "rejected_fractions",
    "rendered",
    "show",
    "side_by_side",
    "write_png",
]
