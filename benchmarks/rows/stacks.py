"""Combining twenty and forty frames: every peer, the whole process, every rejection."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.measure import Contestant, Result
from benchmarks.tables import (
    TIMED,
    Row,
    Target,
    failures,
    megabytes,
    number,
    timed_line,
    timed_lines,
)

OURS, IMAGE = "daskcal, all planes", "daskcal, image only"
CCDPROC = 'ccdproc, "median" and "mad_std"'
BARE = f"{CCDPROC}, no bottleneck"
GUIDE = "ccdproc, as its guide calls it"
COMPAT = "daskcal.compat.ccdproc, as the guide calls it"
SIRIL, SIRIL_MAD = "Siril, sigma 3 3", "Siril, MAD 7.413 7.413"
POP, GNU, NUMPY = "astropop", "astarithmetic sigclip-mean 3σ", "astropy sigma_clip, float64 stack"
READ, COLD = "limit: reading the bytes, 2 threads", "limit: reading, cold"
COPY, KERNEL = "limit: memory copy, 2 threads", "limit: kernel alone, 2 threads"
SLOW = 1  # run of what takes long

_ABOUT = (
    "All read the same FITS files from the page cache and write FITS. daskcal and ccdproc write "
    "image, uncertainty and mask (daskcal also counts), astropop too; the others an image. "
    "Processes are warm: libraries imported, kernels compiled. daskcal clips until nothing "
    "changes and flushes its output to disk (fsync); no peer does.",
    "What the peers do: ccdproc and astropop clip once at 5σ, σ from the MAD. Siril's sigma clip "
    "and astarithmetic's take σ from the scatter about the mean, which among 20 values never lets "
    "one be 5σ off ((n−1)/√n = 4.25), so they clip at 3σ; Siril's time is that of the stacking "
    "step in its own log. astropy clips the whole stack in float64 until nothing changes.",
    "“Reading” is readv into a buffer of 4 MiB per thread; “kernel alone” is daskcal's compiled "
    "loop on the same pixels in memory, with nothing read or written.",
)


def combine_4096(bench: Bench) -> Row:
    """Twenty large frames."""
    return _combine(bench, "combine-4096", bench.pick(4096, 256), (
        (OURS, 40.0, CCDPROC), (IMAGE, 5.0, SIRIL)), limits=True)  # fmt: skip


def combine_2048(bench: Bench) -> Row:
    """Twenty smaller frames; peers that need too much time or memory for the large ones too."""
    return _combine(bench, "combine-2048", bench.pick(2048, 128), ((OURS, 40.0, CCDPROC),))


def _combine(
    bench: Bench,
    id_: str,
    size: int,
    ratios: tuple[tuple[str, float, str], ...],
    limits: bool = False,
) -> Row:
    folder, out = bench.biases(20, size), bench.folder("out")
    contestants = _contestants(bench, folder, out, large=limits)
    results = bench.race(contestants, 5)
    remarks = [*_ABOUT, *_checks(bench, folder, out, results)]
    if limits:
        results[KERNEL] = results[KERNEL].fact("kernel", KERNEL)
        results[COLD] = results[COLD].fact("cold", COLD)
    for name in {SIRIL, SIRIL_MAD} & set(results):
        results[name] = results[name].fact("step", name)
    targets = [
        Target(f"{ours} against {peer}", _ratio(results, peer, ours), bound)
        for ours, bound, peer in ratios
    ]
    if limits:
        limit = results[READ].median + results[KERNEL].median
        targets += [
            Target(f"{ours} against reading and kernel", results[ours].median / limit, 2.0,
                   at_least=False) for ours in (OURS, IMAGE)
        ]  # fmt: skip
        remarks.append(
            f"Reading and kernel together: {number(limit)} s. Cold reads are of files that the "
            "page cache was told to forget (posix_fadvise); a virtual machine's host may still "
            "hold them."
        )
    return Row(
        id_,
        f"Combine 20 × {size}² uint16: average with a 5σ median/MAD clip, FITS in, FITS out, in "
        "process.",
        TIMED,
        timed_lines(results.values()),
        tuple(targets),
        tuple(remarks),
        failures=failures(results.values()),
    )


def _contestants(bench: Bench, folder: str, out: str, large: bool) -> list[Contestant]:
    ours, peer = "benchmarks.peers.daskcal_calls:combine", "benchmarks.peers.ccdproc_calls"
    programs, limit = "benchmarks.peers.programs", "benchmarks.peers.limits"
    linked = _linked(bench, folder)
    stack = "stack {seq} rej %s -nonorm -out=" + out
    files = {"folder": folder}
    found = [
        Contestant(OURS, ours, files | {"out": f"{out}/all.fits"}),
        Contestant(IMAGE, ours, files | {"out": f"{out}/image.fits", "planes": ["image"]}),
        Contestant(CCDPROC, f"{peer}:combine", files | {"out": f"{out}/ccdproc.fits"},
                   "ccdproc+bottleneck", SLOW, False),
        Contestant(GUIDE, f"{peer}:combine_as_the_guide", files | {"out": f"{out}/guide.fits"},
                   "ccdproc+bottleneck", SLOW, False),
        Contestant(COMPAT, f"{ours}_as_the_guide", files | {"out": f"{out}/compat.fits"}),
        Contestant(POP, "benchmarks.peers.astropop_calls:combine",
                   files | {"out": f"{out}/astropop.fits"}, "astropop+bottleneck", SLOW, False),
        Contestant(SIRIL, f"{programs}:siril",
                   {"folder": linked, "command": stack % "s 3 3" + "/siril"}, "siril", 3, False),
        Contestant(GNU, f"{programs}:astarithmetic",
                   files | {"out": f"{out}/gnu.fits", "operands": "3 0.01 sigclip-mean"},
                   "gnuastro", SLOW, False),
    ]  # fmt: skip
    if large:
        found += [
            Contestant(READ, f"{limit}:read", files),
            Contestant(COPY, f"{limit}:copy", files),
            Contestant(KERNEL, f"{limit}:kernel", files),
            Contestant(COLD, f"{limit}:read_cold", files, runs=2, warm_up=False),
        ]
    else:
        found += [
            Contestant(SIRIL_MAD, f"{programs}:siril",
                       {"folder": linked, "command": stack % "a 7.413 7.413" + "/siril_mad"},
                       "siril", SLOW, False),
            Contestant(NUMPY, "benchmarks.peers.astropy_calls:combine",
                       files | {"out": f"{out}/astropy.fits"}, "", SLOW, False),
            Contestant(BARE, f"{peer}:combine", files | {"out": f"{out}/bare.fits"},
                       "ccdproc", SLOW, False, ("bottleneck",)),
        ]  # fmt: skip
    return found


def _linked(bench: Bench, folder: str) -> str:
    target = bench.folder("siril")
    bench.call("benchmarks.peers.programs:link", folder=folder, target=target)
    return target


def _checks(bench: Bench, folder: str, out: str, results: dict[str, Result]) -> list[str]:
    """The outputs of the last runs agree; where the clips are the same, everywhere."""
    ours = results[OURS]
    once = {"sigma_floor": 0, "maxiters": 1}
    bench.call("benchmarks.peers.daskcal_calls:combine", folder=folder, out=f"{out}/once.fits",
               options=once)  # fmt: skip
    said = bench.agree("daskcal's planes together and its image alone", [ours, results[IMAGE]],
                       f"{out}/all.fits", f"{out}/image.fits", 0, 1)  # fmt: skip
    alike = [(CCDPROC, "ccdproc"), (GUIDE, "guide"), (COMPAT, "compat"), (POP, "astropop")]
    for name, file in [*alike, (BARE, "bare")]:
        if name not in results:
            continue
        said += bench.agree(f"{name} and daskcal with one iteration and no floor", [results[name]],
                            f"{out}/once.fits", f"{out}/{file}.fits", 1e-3, 0.999_99)  # fmt: skip
    others = [(SIRIL, "siril.fit", 65535, 0.9), (GNU, "gnu.fits", 1, 0.9)]
    others += [(SIRIL_MAD, "siril_mad.fit", 65535, 0.99), (NUMPY, "astropy.fits", 1, 0.99)]
    for name, file, factor, share in others:
        if name in results:
            said += bench.agree(f"{name} and daskcal", [results[name]], f"{out}/all.fits",
                                f"{out}/{file}", 0.01, share, factor=factor)  # fmt: skip
    return said


def _ratio(results: dict[str, Result], peer: str, ours: str) -> float:
    return results[peer].median / results[ours].median


# --- the whole process --------------------------------------------------------------------------

DASKCAL, WHOLE_SIRIL = "daskcal combine", "siril-cli"
TINY = " of 20 × 64²"


def process(bench: Bench) -> Row:
    """The command line against Siril's, and how much of it is start-up."""
    size = bench.pick(4096, 256)
    folder, tiny = bench.biases(20, size), bench.biases(20, 64)
    out = bench.folder("out")
    programs = "benchmarks.peers.programs"
    contestants = []
    for files, ending in ((folder, ""), (tiny, TINY)):
        linked = bench.folder(f"siril{ending.strip() and '-tiny'}")
        bench.call(f"{programs}:link", folder=files, target=linked)
        command = "stack {seq} rej s 3 3 -nonorm -out=" + out + "/siril"
        contestants += [
            Contestant(DASKCAL + ending, f"{programs}:daskcal_combine",
                       {"folder": files, "out": f"{out}/whole.fits"}),
            Contestant(WHOLE_SIRIL + ending, f"{programs}:siril",
                       {"folder": linked, "command": command}, "siril"),
        ]  # fmt: skip
    found = bench.race(contestants, 3)
    results = {name: result.fact("whole", name) for name, result in found.items()}
    share = 100 * results[DASKCAL + TINY].median / results[DASKCAL].median
    return Row(
        "process",
        f"The whole process: 20 × {size}² uint16 by command line, and the same of frames so small "
        "that nothing but start-up is left.",
        TIMED,
        timed_lines(results.values()),
        (
            Target("siril-cli against daskcal combine, whole process",
                   _ratio(results, WHOLE_SIRIL, DASKCAL), 1.0),
        ),
        (f"Start-up is {number(share)} % of `daskcal combine`.",),
        failures=failures(results.values()),
    )  # fmt: skip


# --- every rejection ----------------------------------------------------------------------------


def rejections(bench: Bench) -> Row:
    """Each rejection that daskcal has, with its defaults."""
    size, n = bench.pick(2048, 64), 20
    folder = bench.biases(n, size)
    calls = "benchmarks.peers.daskcal_calls"
    names = bench.call(f"{calls}:rejections")
    on = {name: bench.call(f"{calls}:works_on", folder=folder, reject=name) for name in names}
    results = bench.race(
        [
            Contestant(name, f"{calls}:combine_in_memory",
                       {"folder": folder, "reject": name, "variance": on[name]["variance"]})
            for name in sorted(names, key=lambda name: name != "none")
            if not on[name]["reason"]
        ],
        3,
    )  # fmt: skip
    pixels, base = n * size * size / 1e6, results["none"].median
    lines = tuple(
        (timed_line(result, base)[0],
         "frames with variance" if on[name]["variance"] else "raw frames",
         number(result.median), number(pixels / result.median), number(result.median / base),
         megabytes(result.peak))
        for name, result in results.items()
    )  # fmt: skip
    return Row(
        "rejections",
        f"Each rejection with its defaults, average of {n} × {size}² uint16, all planes to memory.",
        ("rejection", "works on", "median s", "Mpix/s", "× none", "peak MB"),
        lines,
        remarks=tuple(
            f"{name} does not take these frames: {found['reason']}"
            for name, found in on.items()
            if found["reason"]
        ),
        failures=failures(results.values()),
    )


# --- median -------------------------------------------------------------------------------------


def median_float32(bench: Bench) -> Row:
    """A plain median of forty frames."""
    size, n = bench.pick(4096, 256), 40
    folder = bench.biases(n, size, dtype="float32")
    out, linked = bench.folder("out"), _linked(bench, folder)
    options = {"method": "median", "reject": "none"}
    ours = "benchmarks.peers.daskcal_calls:combine"
    limit, programs = "benchmarks.peers.limits", "benchmarks.peers.programs"
    mine, peer, siril, gnu = OURS, "ccdproc median", "Siril med", "astarithmetic median"
    files = {"folder": folder}
    results = bench.race(
        [
            Contestant(mine, ours, files | {"out": f"{out}/all.fits", "options": options}),
            Contestant(IMAGE, ours, files | {"out": f"{out}/image.fits", "options": options,
                                             "planes": ["image"]}),
            Contestant(peer, "benchmarks.peers.ccdproc_calls:median",
                       files | {"out": f"{out}/ccdproc.fits"}, "ccdproc+bottleneck", SLOW, False),
            Contestant(siril, f"{programs}:siril",
                       {"folder": linked, "command": "stack {seq} med -nonorm -out=" + out
                        + "/siril"}, "siril", SLOW, False),
            Contestant(gnu, f"{programs}:astarithmetic",
                       files | {"out": f"{out}/gnu.fits", "operands": "median"}, "gnuastro", SLOW,
                       False),
            Contestant(READ, f"{limit}:read", files),
            Contestant(KERNEL, f"{limit}:kernel",
                       files | {"method": "median", "kind": "none"}),
        ],
        3,
    )  # fmt: skip
    results[KERNEL] = results[KERNEL].fact("kernel", KERNEL)
    said = []
    for name, file in ((peer, "ccdproc.fits"), (gnu, "gnu.fits"), (siril, "siril.fit")):
        said += bench.agree(f"{name} and daskcal", [results[name]], f"{out}/all.fits",
                            f"{out}/{file}", 1e-8, 1)  # fmt: skip
    results[siril] = results[siril].fact("step", siril)
    return Row(
        "median-float32",
        f"Median of {n} × {size}² float32, nothing rejected, FITS in, FITS out, in process.",
        TIMED,
        timed_lines(results.values()),
        (Target(f"{mine} against {peer}", _ratio(results, peer, mine), 40.0),),
        tuple(said),
        failures=failures(results.values()),
    )


ROWS = {
    "combine-4096": combine_4096,
    "combine-2048": combine_2048,
    "process": process,
    "rejections": rejections,
}
MEDIAN = {"median-float32": median_float32}
