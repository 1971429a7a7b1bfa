"""Compiling the kernels: many threads and processes at once, the cache, and doing without it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest

from daskcal.combination.kernels import Reject, combine_block, pixels

REPOSITORY = Path(__file__).parents[2]

# Compiles the loop in four threads at once: without the parts that take long to compile, and
# without the package above, of which the kernels need nothing.
FIRST_CALL = """
import hashlib, sys, types
from concurrent.futures import ThreadPoolExecutor
import numba
import numpy as np

above = types.ModuleType("daskcal.combination")
above.__path__ = [sys.argv[1]]
sys.modules[above.__name__] = above
from daskcal.combination.kernels import Reject, combine_block, pixels
assert "dask" not in sys.modules

@numba.njit
def nothing(raw, ranked, good, kind, by_median, by_mad, low, high, floor, maxiters,
            lanes, losing, n_low, n_high, width):
    n_low[:width], n_high[:width] = 0, 0

pixels._reject = nothing
pixels.rank = numba.njit(lambda raw, ranked, width: None)

def digest(_):
    image = np.random.default_rng(0).normal(100, 5, (9, 4, 300))
    planes = combine_block(image, reject=Reject("none"))
    assert np.allclose(planes.image, image.mean(axis=0))
    return hashlib.sha256(b"".join(p.tobytes() for p in planes if p is not None)).hexdigest()

with ThreadPoolExecutor(4) as pool:
    (result,) = set(pool.map(digest, range(8)))
print(result, sum(pixels.combine_pixels.stats.cache_hits.values()))
"""


def first_call(cache: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", FIRST_CALL, str(REPOSITORY / "daskcal" / "combination")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_threads_and_processes_may_compile_at_once_and_the_next_process_need_not(tmp_path):
    both = [first_call(tmp_path) for _ in range(2)]
    (bits,) = {process.communicate(timeout=300)[0].split()[0] for process in both}
    later, _ = first_call(tmp_path).communicate(timeout=300)
    assert later.split() == [bits, "1"]


def test_a_change_in_any_kernel_file_makes_the_cache_stale(tmp_path, monkeypatch):
    (closure,) = pixels.combine_pixels.py_func.__closure__  # numba's cache key includes this
    assert closure.cell_contents == pixels._sources()
    for name in ("pixels.py", "clip.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(pixels, "__file__", str(tmp_path / "pixels.py"))
    before = pixels._sources()
    (tmp_path / "clip.py").write_text("changed = True")
    assert pixels._sources() != before


def test_without_a_folder_to_write_to_the_kernels_still_compile(monkeypatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache"):
        pixels._compile("", cache=True)
    assert callable(pixels._compile_cached())


def test_two_threads_give_the_bits_of_one():
    image = np.random.default_rng(1).normal(100, 5, (9, 40, 300)).astype("f4")
    reject = Reject("sigma", 2, 2)
    alone = combine_block(image, reject=reject).image
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: combine_block(image, reject=reject).image, range(16)):
            assert found.tobytes() == alone.tobytes()
