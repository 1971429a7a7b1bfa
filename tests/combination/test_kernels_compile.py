"""Compiling the kernels: many threads and processes at once, the cache, and doing without it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from astropy.io import fits

from daskcal.combination.kernels import Reject, combine_block, pixels
from daskcal.compiled import compile_cached, once

REPOSITORY = Path(__file__).parents[2]

# Compiles the shortest of the loops in four threads at once, without the package above, of which
# the kernels need nothing.
FIRST_CALL = """
import hashlib, logging, sys, types
from concurrent.futures import ThreadPoolExecutor
import numpy as np

above = types.ModuleType("daskcal.combination")
above.__path__ = [sys.argv[1]]
sys.modules[above.__name__] = above
from daskcal.combination.kernels import Reject, combine_block, pixels
assert "dask" not in sys.modules
told = []
logger = logging.getLogger("daskcal.compiled")
logger.setLevel(logging.INFO)
logger.addFilter(lambda record: told.append(record))

def digest(_):
    image = np.random.default_rng(0).normal(100, 5, (9, 4, 300))
    planes = combine_block(image, reject=Reject("none"))
    assert np.allclose(planes.image, image.mean(axis=0))
    return hashlib.sha256(b"".join(p.tobytes() for p in planes if p is not None)).hexdigest()

with ThreadPoolExecutor(4) as pool:
    (result,) = set(pool.map(digest, range(8)))
stats = pixels.combining_loop(pixels.NONE, 0).stats
print(result, sum(stats.cache_misses.values()), sum(stats.cache_hits.values()), len(told))
"""


def first_call(cache: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", FIRST_CALL, str(REPOSITORY / "daskcal" / "combination")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_of_many_that_start_at_once_one_compiles_and_the_others_load(tmp_path):
    three = [first_call(tmp_path) for _ in range(3)]
    said = sorted(process.communicate(timeout=300)[0].split() for process in three)
    bits = said[0][0]
    assert said == [[bits, "0", "1", "0"], [bits, "0", "1", "0"], [bits, "1", "0", "1"]]
    later, _ = first_call(tmp_path).communicate(timeout=300)
    assert later.split() == [bits, "0", "1", "0"]


def test_the_command_line_says_that_it_compiles(tmp_path):
    for i in range(2):
        fits.PrimaryHDU(np.full((4, 5), i, np.uint16)).writeto(tmp_path / f"{i}.fits")
    command = [sys.executable, "-m", "daskcal", "combine", "--reject", "none", "--unit", "adu",
               "0.fits", "1.fits", "-o"]  # fmt: skip
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    said = [
        subprocess.run(
            [*command, f"{i}-out.fits"],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        ).stderr
        for i in range(2)
    ]
    assert [text.count("compiling loops for this machine") for text in said] == [1, 0]


def test_a_change_in_any_kernel_file_makes_the_cache_stale(tmp_path, monkeypatch):
    loop = pixels.combining_loop(pixels.NONE, 0)
    closed_over = [cell.cell_contents for cell in loop.py_func.__closure__]  # numba's key has them
    assert pixels._sources() in closed_over
    for name in ("pixels.py", "clip.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(pixels, "__file__", str(tmp_path / "pixels.py"))
    before = pixels._sources()
    (tmp_path / "clip.py").write_text("changed = True")
    assert pixels._sources() != before


def test_without_a_folder_to_write_to_the_kernels_still_compile(monkeypatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(lambda x: x)
    loop = compile_cached(lambda x: x + 1)
    assert loop(1) == 2
    assert loop.stats.cache_path is None


def test_two_threads_give_the_bits_of_one():
    image = np.random.default_rng(1).normal(100, 5, (9, 40, 300)).astype("f4")
    reject = Reject("sigma", 2, 2)
    alone = combine_block(image, reject=reject).image
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: combine_block(image, reject=reject).image, range(16)):
            assert found.tobytes() == alone.tobytes()


def test_threads_that_start_at_once_get_the_same_loop():
    made = []

    @once
    def loop(kind):
        time.sleep(0.05)  # long enough for all threads to have asked
        made.append(kind)
        return object()

    with ThreadPoolExecutor(4) as pool:
        (found,) = set(pool.map(loop, [1, 1, 1, 1]))
    assert found is loop(1)
    assert found is not loop(2)
    assert made == [1, 2]


def test_a_loop_may_call_another_that_is_not_compiled_yet(tmp_path):
    (tmp_path / "loops.py").write_text(
        "from daskcal.compiled import compile_cached\n"
        "inner = compile_cached(lambda x: x + 1)\n"
        "def _outer(x):\n"
        "    return inner(x) * 2\n"
        "print(compile_cached(_outer)(1))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "loops.py"], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["4"]
