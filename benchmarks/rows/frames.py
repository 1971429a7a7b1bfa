"""Many frames: throughput and memory must not depend on how many there are."""

from __future__ import annotations

import math

from benchmarks.bench import Bench
from benchmarks.measure import Contestant
from benchmarks.tables import MEGA, Row, Target, failures, megabytes, number

BUDGET = "1GB"
_BYTES = 1e9
CALLS, PROGRAMS = "benchmarks.peers.daskcal_calls", "benchmarks.peers.programs"


def many_frames(bench: Bench) -> Row:
    """Ten to ten thousand frames of the same pixels altogether."""
    numbers = (10, 100, 1_000, 10_000) if not bench.quick else (10, 100)
    total = 10 * bench.pick(4096, 256) ** 2
    out = bench.folder("out")
    sizes = {n: round(math.sqrt(total / n)) for n in numbers}
    folders = {n: bench.biases(n, size) for n, size in sizes.items()}
    inside = {n: f"N = {n:,}" for n in numbers}
    whole = {n: f"daskcal combine, N = {n:,}" for n in numbers}
    kernel = {n: f"kernel alone, N = {n:,}" for n in numbers}
    contestants = []
    for n, folder in folders.items():
        contestants += [
            Contestant(inside[n], f"{CALLS}:combine_timed",
                       {"folder": folder, "out": f"{out}/{n}.fits", "memory": BUDGET}),
            Contestant(whole[n], f"{PROGRAMS}:daskcal_combine",
                       {"folder": folder, "out": f"{out}/{n}.fits", "memory": BUDGET}, runs=1,
                       warm_up=False),
            Contestant(kernel[n], "benchmarks.peers.limits:kernel", {"folder": folder}),
        ]  # fmt: skip
    results = bench.race(contestants, 3)
    bare = _bare(bench)
    lines, rates, peaks = [], {}, {}
    for n, size in sizes.items():
        mega = n * size * size / MEGA
        opened = results[inside[n]].fact("open", "").median
        combined = results[inside[n]].fact("combine", "").median
        alone = results[kernel[n]].fact("kernel", "").median
        rates[n], peaks[n] = mega / combined, results[whole[n]].peak - bare
        lines.append((f"{n:,} × {size}²", number(opened), number(combined), number(rates[n]),
                      number(mega / (opened + combined)), number(mega / alone),
                      megabytes(peaks[n])))  # fmt: skip
    return Row(
        "many-frames",
        "The same pixels in more and more frames: average with a 5σ median/MAD clip, FITS to FITS.",
        ("frames", "open s", "combine s", "Mpix/s", "Mpix/s with opening", "kernel alone Mpix/s",
         f"peak MB of `daskcal combine --memory {BUDGET}`"),
        tuple(lines),
        (
            Target("slowest throughput against N = 10, a factor", rates[10] / min(rates.values()),
                   3.0, at_least=False),
            Target(f"largest peak memory, budget {BUDGET}", max(peaks.values()) / MEGA,
                   _BYTES / MEGA, "MB", at_least=False),
        ),
        ("Combining includes reading and writing; opening is the scan of the headers, which the "
         "index knows from the warm-up. The fewer the frames, the larger is the output beside "
         "the input. Peaks are those of a process by command line, "
         f"less a bare interpreter's {megabytes(bare)} MB.",),
        failures=failures(results.values()),
    )  # fmt: skip


def memory(bench: Bench) -> Row:
    """Peak memory of stacks that are far larger than the budget."""
    size, names = bench.pick(2048, 64), (20, 200, 2000)
    source, tiny = bench.biases(20, size), bench.biases(20, 64)
    out = bench.folder("out")
    folders = {
        f"{n:,} × {size}²": bench.frames(f"repeated-{n}", "repeated", source=source, n=n)
        for n in names
    }
    folders["20 × 64²: libraries and kernels alone"] = tiny
    results = bench.race(
        [
            Contestant(name, f"{PROGRAMS}:daskcal_combine",
                       {"folder": folder, "out": f"{out}/memory.fits", "memory": BUDGET}, runs=1,
                       warm_up=False)
            for name, folder in folders.items()
        ],
        1,
    )  # fmt: skip
    bare = _bare(bench)
    lines = tuple(
        (name, megabytes(result.peak), megabytes(result.peak - bare),
         number(result.fact("whole", "").median))
        for name, result in results.items()
    )  # fmt: skip
    largest = max(result.peak for result in results.values()) - bare
    return Row(
        "memory",
        f"Peak memory of `daskcal combine --memory {BUDGET}`; the frames are repeated by hard "
        "links.",
        ("frames", "peak MB", "less a bare interpreter MB", "seconds"),
        lines,
        (Target(f"largest peak, budget {BUDGET}", largest / MEGA, _BYTES / MEGA, "MB",
                at_least=False),),
        (f"A bare interpreter takes {megabytes(bare)} MB.",),
        failures=failures(results.values()),
    )  # fmt: skip


def _bare(bench: Bench) -> int:
    """Peak memory of an interpreter that does nothing, in bytes."""
    return bench.call(f"{PROGRAMS}:python", work=str(bench.work), program="pass")["peak"]


ROWS = {"many-frames": many_frames, "memory": memory}
