"""Tile-compressed frames."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.measure import Contestant
from benchmarks.tables import TIMED, Row, Target, failures, timed_lines


def rice(bench: Bench) -> Row:
    """RICE-compressed frames against ccdproc on the same files, and against plain ones."""
    size = bench.pick(2048, 128)
    packed = bench.biases(20, size, dtype="uint16", compressed=True)
    plain = bench.biases(20, size)
    out = bench.folder("out")
    calls = "benchmarks.peers.daskcal_calls:combine"
    ours, peer, beside = "daskcal, RICE", "ccdproc, RICE", "daskcal, the same frames plain"
    alone = "astropy: decompressing alone, one after the other"
    results = bench.race(
        [
            Contestant(ours, calls, {"folder": packed, "out": f"{out}/packed.fits"}),
            Contestant(peer, "benchmarks.peers.ccdproc_calls:combine",
                       {"folder": packed, "out": f"{out}/ccdproc.fits", "hdu": 1},
                       "ccdproc+bottleneck", 1, False),
            Contestant(beside, calls, {"folder": plain, "out": f"{out}/plain.fits"}),
            Contestant(alone, "benchmarks.peers.astropy_calls:unpack",
                       {"folder": packed, "hdu": 1}, runs=2),
        ],
        3,
    )  # fmt: skip
    said = bench.agree("compressed and plain", [results[ours], results[beside]],
                       f"{out}/packed.fits", f"{out}/plain.fits", 0, 1)  # fmt: skip
    said += bench.agree("ccdproc and daskcal", [results[peer]], f"{out}/packed.fits",
                        f"{out}/ccdproc.fits", 1e-3, 0.99)  # fmt: skip
    return Row(
        "rice",
        f"Combine 20 × {size}² uint16, RICE-compressed by rows: average with a 5σ median/MAD clip, "
        "all planes to FITS.",
        TIMED,
        timed_lines(results.values()),
        (Target(f"{ours} against ccdproc", results[peer].median / results[ours].median, 3.0),),
        tuple(said),
        failures=failures(results.values()),
    )


ROWS = {"rice": rice}
