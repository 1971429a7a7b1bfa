"""The rows of the benchmark table, one module for those that share their frames."""

from __future__ import annotations

from benchmarks.rows import calibration, cluster, compressed, frames, headers, stacks
from benchmarks.tables import Maker

# In the order of the table; frames are kept from one row to the next within a group.
GROUPS: tuple[dict[str, Maker], ...] = (
    stacks.ROWS,
    stacks.MEDIAN,
    calibration.ROWS,
    frames.ROWS,
    compressed.ROWS,
    headers.ROWS,
    cluster.ROWS,
)
IDS = tuple(id_ for group in GROUPS for id_ in group)
