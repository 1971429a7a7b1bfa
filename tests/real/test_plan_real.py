"""A long night of real headers, planned: every frame has one fate, and what it takes is said.

In full, with the seconds after the scan and the peak of memory::

    DASKCAL_PLAN_FRAMES=50000 pytest -s tests/real/test_plan_real.py
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
import pytest

from daskcal.fits import Frame, scan
from daskcal.night.config.read import NightConfig
from daskcal.night.plan.plan import plan_night

FRAMES = int(os.environ.get("DASKCAL_PLAN_FRAMES", "300"))
RULES = {"temperature": 2.0, "days": 30.0, "keywords": [{"keyword": "OBSERVER"}]}


def headers(root: Path) -> Iterator[tuple[bytes, int]]:
    """Header blocks of the files of one plain image each, and the bytes of its pixels."""
    for frame in scan(root, index=False).frames:
        source = frame.source
        if _is_plain(frame):
            raw = Path(source.path).read_bytes()[: source.offset]
            size = source.shape[0] * source.shape[1] * abs(source.bitpix) // 8
            yield raw, -(-size // 2880) * 2880


def _is_plain(frame: Frame) -> bool:
    source = frame.source
    return not (source.hdu or source.wrapper or source.compression or frame.parts)


def replicate(root: Path, night: Path, n: int) -> None:
    """Files with these headers, each with a card of its own, the pixels a hole in the file."""
    night.mkdir()
    for i, (raw, size) in enumerate(islice(cycle(list(headers(root))), n)):
        cards = [raw[at : at + 80] for at in range(0, len(raw), 80)]
        end = next(k for k, card in enumerate(cards) if card[:8].rstrip() == b"END")
        mine = f"REPLICA = {i:>20d}".encode().ljust(80)
        text = b"".join([*cards[:end], mine, b"END".ljust(80)])
        text = text.ljust(-(-len(text) // 2880) * 2880)
        with (night / f"n{i:06d}.fits").open("wb") as file:
            file.write(text)
            file.truncate(len(text) + size)


def clocks() -> np.ndarray:
    """Seconds on the wall, and of work; the first are long on a busy machine."""
    return np.array([time.perf_counter(), time.process_time()])


@pytest.mark.parametrize("rules", [{}, RULES], ids=["rules as they are", "more rules"])
def test_every_frame_has_one_fate(
    realdata: Callable[[str], Path], tmp_path: Path, rules: dict[str, object]
) -> None:
    night = tmp_path / "night"
    replicate(realdata("."), night, FRAMES)
    scan(night, detectors=True)
    begin = clocks()
    scan(night, detectors=True)
    scanned = clocks() - begin
    config = NightConfig.model_validate({"instrument": {"unit": "adu"}, "match": rules})
    begin = clocks()
    plan = plan_night(night, config)
    said = str(plan)
    seconds, busy = clocks() - begin - scanned
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{FRAMES} frames, after the scan: {seconds:.1f} s ({busy:.1f} s of work), {peak:.0f} MB"
    )
    assert said
    planned = chain.from_iterable(p.frames for p in (*plan.jobs, *plan.missing))
    fates = np.bincount([*planned, *plan.skipped], minlength=FRAMES)
    assert len(plan.frames) + len(plan.unreadable) == FRAMES
    assert (fates[: len(plan.frames)] == 1).all()
    assert len({p.name.casefold() for p in (*plan.jobs, *plan.missing)}) == len(plan.jobs) + len(
        plan.missing
    )
