"""From threads to workers: how work scales, what the scheduler takes, what workers hold."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.measure import Contestant, Result
from benchmarks.tables import MEGA, Row, Target, check, failures, megabytes, number

CALLS = "benchmarks.peers.cluster_calls"
_MILLI = 1e3


@dataclass(frozen=True)
class Place:
    """Where work is done: so many workers of one thread (or none: threads), on so many cores.

    `base` is the place that `cores` times this one's speed is held against.
    """

    name: str
    workers: int
    cores: int
    base: str = ""


ONE_THREAD, ONE_WORKER, TWO_WORKERS = "threads, 1 core", "1 worker, 1 core", "2 workers, 2 cores"
BESIDE = "1 worker on a core, client and scheduler on the other"
TWO_THREADS = "threads, 2 cores"
PLACES = (
    Place(ONE_THREAD, 0, 1),
    Place(TWO_THREADS, 0, 2, ONE_THREAD),
    Place(ONE_WORKER, 1, 1),
    Place(BESIDE, 1, 2),
    Place(TWO_WORKERS, 2, 2, ONE_WORKER),
)
COLUMNS = ("where", "work", "median s", "best s", "runs", "efficiency %", "client ms a product",
           "scheduler ms a product", "tasks a product", "peak MB of a worker",
           "spilled MB")  # fmt: skip


def cluster(bench: Bench) -> Row:
    """The same night, the same combine and a night of tiny frames, by threads and by workers."""
    places = PLACES if not bench.quick else (PLACES[0], PLACES[-1])
    lines: list[tuple[str, ...]] = []
    remarks, failed, held = list(_ABOUT), [], []
    for work, (call, arguments) in _works(bench).items():
        results = bench.race(
            [Contestant(place.name, call, arguments | {
                "workers": place.workers, "cores": place.cores}, warm_up=not bench.quick)
             for place in places],
            3,
        )  # fmt: skip
        lines += [_line(place, work, results) for place in places]
        failed += failures(results.values())
        held += [worker for result in results.values() for worker in _workers(result)]
        remarks.append(_same(work, results))
    return Row(
        "cluster",
        "A night (masters and science frames), a night of tiny frames, which shows what a product "
        "costs beside its pixels, and a combine, all of uint16 and with all planes, FITS to FITS.",
        COLUMNS,
        tuple(lines),
        (
            Target("largest peak of a worker, in % of its limit",
                   max(100 * one["peak"] / one["limit"] for one in held), 100.0, "%",
                   at_least=False),
            Target("spilled by all workers", sum(one["spilled"] for one in held) / MEGA, 0.0, "MB",
                   at_least=False),
        ),
        tuple(remarks),
        failures=tuple(failed),
    )  # fmt: skip


def _works(bench: Bench) -> dict[str, tuple[str, dict[str, str]]]:
    """What is done, by its name: a call and its arguments."""
    size, science, n = bench.pick(2048, 64), bench.pick(30, 3), bench.pick(100, 10)
    out = bench.folder("out")
    works = {}
    for count, side in ((science, size), (bench.pick(40, 3), 64)):
        folder = bench.folder(f"night-{count}-{side}")
        made = bench.call("benchmarks.data:night", folder=folder, size=side, science=count)
        works[f"night, {count} × {side}² of science"] = (
            f"{CALLS}:night", made | {"out": f"{out}/{count}-{side}"})  # fmt: skip
    stack = bench.frames(f"repeated-{n}", "repeated", n=n,
                         source=bench.biases(bench.pick(20, 4), size))  # fmt: skip
    combine = {"folder": stack, "out": f"{out}/combined.fits"}
    return works | {f"combine {n} × {size}²": (f"{CALLS}:combine", combine)}


_ABOUT = (
    "Each worker is a process with one thread, bound to a core of its own; the client and the "
    "scheduler are bound to the cores that the line names, and share them with the workers. The "
    "cluster stands before time is taken; a night's time is that of `reduce_night`, ledger and "
    "report included, into an empty folder. Efficiency is the time on one core over twice that on "
    "two, of threads and of workers.",
    "Client and scheduler: CPU time of their processes over the number of products, the client's "
    "with threads being all the work. Tasks: those that the scheduler saw to their end. A worker's "
    "peak is the VmHWM of its process, libraries and compiled loops included; its limit is 2 GB. "
    "Spilled is what the worker's own counter says that it ever wrote to disk.",
)


def _line(place: Place, work: str, results: dict[str, Result]) -> tuple[str, ...]:
    result = results[place.name]
    if result.reason:
        return (f"{place.name}: FAILED: {result.reason}", work, *["–"] * (len(COLUMNS) - 2))
    seconds, base = _seconds(result), results.get(place.base)
    share = _seconds(base).median / place.cores / seconds.median if base else float("nan")
    workers = _workers(result)
    told = [_per_product(result, name) for name in ("client", "scheduler", "tasks")]
    return (
        place.name, work, number(seconds.median), number(seconds.best), str(len(seconds.seconds)),
        number(100 * share), number(_MILLI * told[0]), number(_MILLI * told[1]), number(told[2]),
        megabytes(max((one["peak"] for one in workers), default=0)),
        number(sum(one["spilled"] for one in workers) / MEGA) if workers else "–",
    )  # fmt: skip


def _seconds(result: Result) -> Result:
    return result.fact("seconds", result.name)


def _workers(result: Result) -> list[dict[str, int]]:
    """What workers told after the last run: peaks and counters only grow."""
    return result.values[-1].get("workers", []) if result.values else []


def _per_product(result: Result, name: str) -> float:
    """Least of the runs; NaN where there is none."""
    return min(
        (value[name] / value["products"] for value in result.values if name in value),
        default=float("nan"),
    )


def _same(work: str, results: dict[str, Result]) -> str:
    checksums = {value["checksum"] for result in results.values() for value in result.values}
    return check(f"different products of the {work}", len(checksums), 1, at_least=False)


# --- graphs ---------------------------------------------------------------------------------------


def graphs(bench: Bench) -> Row:
    """What is sent to a scheduler for more and more frames."""
    size = bench.pick(2048, 64)
    numbers = (100, 1_000, 10_000) if not bench.quick else (10, 100)
    source = bench.frames("science-4", "exposures", n=4, size=size)
    masters = bench.call("benchmarks.data:masters", folder=bench.folder("masters-bias"),
                         size=size, bias=True)["noise"]  # fmt: skip
    used = {"masters": masters | {"dark": {"dark": masters["dark"], "scale": True}},
            "sections": bench.call("benchmarks.data:sections", size=size)}  # fmt: skip
    results = bench.race(
        [
            Contestant(f"{n:,} × {size}²", f"{CALLS}:graph", used | {
                "folder": bench.frames(f"science-{n}", "repeated", source=source, n=n)})
            for n in numbers
        ],
        3,
    )  # fmt: skip
    made = {name: result for name, result in results.items() if not result.reason}
    return Row(
        "graphs",
        "What a calibrated combine (overscan, trim, bias, scaled dark, flat, variance and mask; "
        "all planes to FITS) sends to a scheduler. Nothing is computed; the frames are repeated "
        "by hard links.",
        ("frames", "tasks", "kB sent", "bytes a frame", "s to build and pickle"),
        tuple(
            (name, number(_least(result, "tasks")), number(_least(result, "bytes") / _MILLI),
             number(_least(result, "bytes") / _least(result, "frames")),
             number(result.fact("seconds", name).median))
            for name, result in made.items()
        ),
        (),
        ("Tasks are those of the optimised graph, which are what a scheduler has to see to; bytes "
         "are what Dask's client would send, by its own serialisation. Opening the frames, which "
         "is the scan of their headers, is not in the time.",),
        failures=failures(results.values()),
    )  # fmt: skip


def _least(result: Result, name: str) -> float:
    return min(float(value[name]) for value in result.values)


ROWS = {"cluster": cluster, "graphs": graphs}
