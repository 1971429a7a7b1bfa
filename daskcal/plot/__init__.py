"""Pictures for people: PNGs of frames, and matplotlib's Axes for a closer look."""

from daskcal.plot.axes import image, master_planes, pair
from daskcal.plot.charts import histogram, levels, rejected_fractions
from daskcal.plot.graph import plan_graph
from daskcal.plot.png import (
    STRETCHES,
    UNDEFINED_COLOUR,
    block_means,
    defined,
    good_sample,
    has_undefined,
    picture,
    read_image,
    rendered,
    show,
    side_by_side,
)

__all__ = [
    "STRETCHES",
    "UNDEFINED_COLOUR",
    "block_means",
    "defined",
    "good_sample",
    "has_undefined",
    "histogram",
    "image",
    "levels",
    "master_planes",
    "pair",
    "picture",
    "plan_graph",
    "read_image",
    "rejected_fractions",
    "rendered",
    "show",
    "side_by_side",
]
