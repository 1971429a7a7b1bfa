"""Calibrating: before a combine, and frame by frame to files."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.measure import Contestant
from benchmarks.tables import TIMED, Row, Target, check, failures, number, timed_line, timed_lines

SIGNAL = 5000.0  # adu, as benchmarks.data makes it (which is too heavy to import here)
CALLS = "benchmarks.peers.daskcal_calls"


def calibrate_combine(bench: Bench) -> Row:
    """Calibration and combination in one pass, against the combination alone."""
    size, n = bench.pick(4096, 256), 20
    folder = bench.frames("science-20", "exposures", n=n, size=size)
    masters = _masters(bench, "masters-bias", size, bias=True)
    out = bench.folder("out")
    plain, calibrated = "combine raw frames", "calibrate and combine"
    noisy = "calibrate and combine, with variance and mask"
    common = {"folder": folder, "sections": _sections(bench, size)}
    results = bench.race(
        [
            Contestant(plain, f"{CALLS}:combine", {"folder": folder, "out": f"{out}/plain.fits"}),
            Contestant(calibrated, f"{CALLS}:calibrated_combine",
                       common | {"out": f"{out}/calibrated.fits", "masters": masters["plain"],
                                 "noise": False}),
            Contestant(noisy, f"{CALLS}:calibrated_combine",
                       common | {"out": f"{out}/noise.fits", "masters": masters["noise"],
                                 "noise": True}),
        ],
        5,
    )  # fmt: skip
    said = []
    for result, file in ((results[calibrated], "calibrated"), (results[noisy], "noise")):
        if not result.reason:
            off = bench.call("benchmarks.checks:flatness", folder=f"{out}/{file}.fits",
                             signal=SIGNAL)  # fmt: skip
            said.append(check(f"distance of the median from the truth, {result.name}", off, 0.005,
                              at_least=False))  # fmt: skip
    pixels = n * size * size / 1e6
    lines = tuple(
        (*timed_line(result, results[plain].median)[:4], number(pixels / result.median),
         timed_line(result, results[plain].median)[-1])
        for result in results.values()
    )  # fmt: skip
    return Row(
        "calibrate-combine",
        f"Overscan, trim, bias, scaled dark and flat, then combine, of {n} × {size}² uint16 (and "
        "64 columns of overscan); average with a 5σ median/MAD clip; all planes to FITS.",
        ("what", "median s", "best s", "runs", "Mpix/s", "peak MB"),
        lines,
        tuple(
            Target(f"{name}, throughput in % of {plain}",
                   100 * results[plain].median / results[name].median, bound, "%")
            for name, bound in ((calibrated, 60.0), (noisy, 30.0))
        ),
        tuple(said),
        failures=failures(results.values()),
    )  # fmt: skip


def science(bench: Bench) -> Row:
    """Science frames to files, against ccdproc, Siril and writing alone."""
    size, n = bench.pick(4096, 256), bench.pick(8, 2)
    folder = bench.frames(f"science-{n}", "exposures", n=n, size=size)
    masters = _masters(bench, "masters-dark", size, bias=False)
    linked = bench.frames("for-siril", "for_siril", science=folder, masters=masters["plain"],
                          size=size)  # fmt: skip
    outs = {name: bench.folder(f"out-{name}") for name in ("image", "noise", "ccdproc", "alone")}
    ours, noisy = "daskcal, image only", "daskcal, with UNCERT and MASK"
    peer, siril = "ccdproc", "Siril preprocess"
    synced, loose = "limit: writing the images, fsync", "limit: writing the images, no fsync"
    common = {"folder": folder, "sections": _sections(bench, size)}
    alone = {"folder": outs["alone"], "size": size, "count": n}
    results = bench.race(
        [
            Contestant(ours, f"{CALLS}:science",
                       common | {"out": outs["image"], "masters": masters["plain"],
                                 "noise": False}),
            Contestant(noisy, f"{CALLS}:science",
                       common | {"out": outs["noise"], "masters": masters["noise"],
                                 "noise": True}),
            Contestant(peer, "benchmarks.peers.ccdproc_calls:science",
                       {"folder": folder, "out": outs["ccdproc"], "masters": masters["plain"],
                        "columns": size}, "ccdproc+bottleneck", 2, False),
            Contestant(siril, "benchmarks.peers.programs:siril",
                       {"folder": linked, "command": "preprocess {seq} -dark=dark -flat=flat"},
                       "siril", 2, False),
            Contestant(synced, "benchmarks.peers.limits:write", alone | {"sync": True}),
            Contestant(loose, "benchmarks.peers.limits:write", alone | {"sync": False}),
        ],
        5,
    )  # fmt: skip
    results[siril] = results[siril].fact("step", siril)
    first = "science00000"
    said = [
        "Siril has no overscan step: its frames were trimmed before, and its dark holds the level; "
        "it counts in units of 65535 adu. It also replaces hot pixels, about 1 %, which its "
        "scripts cannot turn off. Its time is that of the step in its own log. daskcal "
        "flushes each file to disk (fsync), ccdproc and Siril do not."
    ]
    said += bench.agree("ccdproc and daskcal", [results[peer]], f"{outs['image']}/{first}.fits",
                        f"{outs['ccdproc']}/{first}.fits", 0.01, 1)  # fmt: skip
    said += bench.agree("Siril and daskcal, scaled to one median", [results[siril]],
                        f"{outs['image']}/{first}.fits", f"{linked}/pp_b_00001.fit", 5, 0.98,
                        scaled=True)  # fmt: skip
    off = bench.call("benchmarks.checks:flatness", folder=outs["noise"], signal=SIGNAL)
    said.append(check("distance of the medians from the truth", off, 0.005, at_least=False))
    base = results[ours].median
    return Row(
        "science",
        f"{n} science frames of {size}² uint16 (and 64 columns of overscan): overscan, trim, dark, "
        "flat, each to a FITS file.",
        TIMED,
        timed_lines(results.values()),
        (
            Target("daskcal, image only, against ccdproc", results[peer].median / base, 8.0),
            Target("daskcal, image only, against Siril's preprocess",
                   results[siril].median / base, 3.0),
            Target("daskcal, image only, in % of writing alone (both with fsync)",
                   100 * results[synced].median / base, 50.0, "%"),
        ),
        tuple(said),
        failures=failures(results.values()),
    )  # fmt: skip


def _masters(bench: Bench, name: str, size: int, bias: bool) -> dict[str, dict[str, str]]:
    folder = bench.folder(name)
    return bench.call("benchmarks.data:masters", folder=folder, size=size, bias=bias)


def _sections(bench: Bench, size: int) -> dict[str, str]:
    return bench.call("benchmarks.data:sections", size=size)


ROWS = {"calibrate-combine": calibrate_combine, "science": science}
