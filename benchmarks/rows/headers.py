"""Before a pixel is read: scanning headers, planning a long night, starting up."""

from __future__ import annotations

import shutil
import time

from benchmarks.bench import Bench
from benchmarks.measure import Contestant, Result
from benchmarks.tables import TIMED, Row, Target, failures, megabytes, number, timed_lines

CALLS, PROGRAMS = "benchmarks.peers.header_calls", "benchmarks.peers.programs"
_SETTLED = 2.5  # s: the index does not trust files that changed a moment ago


def scan(bench: Bench) -> Row:
    """Headers per second, for the first time and again."""
    n = bench.pick(3_000, 200)
    folder = bench.frames("headers", "headers", n=n)
    time.sleep(_SETTLED)
    first, again = "daskcal, first scan", "daskcal, unchanged files"
    cold, peer, plain = "daskcal, first scan, cold", "ccdproc ImageFileCollection", "astropy alone"
    index = str(bench.work / "index")
    results = bench.race(
        [
            Contestant(first, f"{CALLS}:first_scan", {"folder": folder, "index": index}),
            Contestant(again, f"{CALLS}:scan_again", {"folder": folder}),
            Contestant(cold, f"{CALLS}:cold_scan", {"folder": folder, "index": index}, "", 1,
                       False),
            Contestant(peer, "benchmarks.peers.ccdproc_calls:collect", {"folder": folder},
                       "ccdproc", 1, False),
            Contestant(plain, "benchmarks.peers.astropy_calls:headers", {"folder": folder}, "", 1,
                       False),
        ],
        5,
    )  # fmt: skip
    for name in (first, cold):
        results[name] = results[name].fact("scan", name)
    lines = tuple(
        (result.name, number(result.median), str(len(result.seconds)),
         number(n / result.median)) if not result.reason
        else (f"{result.name}: {result.reason}", "–", "–", "–")
        for result in results.values()
    )  # fmt: skip
    return Row(
        "scan",
        f"Headers of {n:,} files, 80 cards each.",
        ("what", "median s", "runs", "headers/s"),
        lines,
        (
            Target("first scan", n / results[first].median, 1_000.0, "headers/s"),
            Target("unchanged files", n / results[again].median, 20_000.0, "headers/s"),
        ),
        ("A first scan parses, takes fingerprints and fills an empty index.",),
        failures=failures(results.values()),
    )


def plan(bench: Bench) -> Row:
    """A plan of a survey's long night."""
    n = bench.pick(50_000, 300)
    shutil.rmtree(bench.work / "headers", ignore_errors=True)
    folder = bench.frames("night", "headers", n=n)
    time.sleep(_SETTLED)
    scanned, planned = "scan of unchanged files", "plan, that scan and its text included"
    results = bench.race(
        [
            Contestant(scanned, f"{CALLS}:scan_again", {"folder": folder}),
            Contestant(planned, f"{CALLS}:plan", {"folder": folder}, runs=1, warm_up=False),
        ],
        2,
    )
    facts = results[planned].values[-1] if results[planned].values else {}
    after = results[planned].median - results[scanned].median
    return Row(
        "plan",
        f"`daskcal plan` of {n:,} frames, headers only.",
        TIMED,
        timed_lines(results.values()),
        (Target("after the scan", after, 10.0, "s", at_least=False),),
        (
            f"Planned: {facts.get('jobs', 0):,} products, "
            f"{facts.get('missing', 0):,} that cannot be made; {facts.get('tasks', 0):,} tasks of "
            f"pixels; the graph of the largest combine, of {facts.get('frames', 0):,} frames, has "
            f"{facts.get('graph', 0):,} keys.",
        ),
        failures=failures(results.values()),
    )


def start_up(bench: Bench) -> Row:
    """How long until it answers."""
    work = str(bench.work)
    helped, imported, bare = "daskcal --help", "import daskcal", "a bare interpreter"
    found = bench.race(
        [
            Contestant(helped, f"{PROGRAMS}:daskcal_help", {"work": work}),
            Contestant(imported, f"{PROGRAMS}:python", {"work": work, "program": "import daskcal"}),
            Contestant(bare, f"{PROGRAMS}:python", {"work": work, "program": "pass"}),
        ],
        11,
    )
    results = {name: result.fact("whole", name) for name, result in found.items()}
    return Row(
        "start-up",
        "The whole process, interpreter included.",
        ("what", "median s", "best s", "runs", "peak MB"),
        tuple(
            (result.name, number(result.median), number(result.best), str(len(result.seconds)),
             megabytes(result.peak))
            for result in results.values()
        ),
        (
            _quick_enough(results[helped]),
            _quick_enough(results[imported]),
        ),
        failures=failures(results.values()),
    )  # fmt: skip


def _quick_enough(result: Result) -> Target:
    return Target(f"`{result.name}`", result.median, 0.3, "s", at_least=False)


ROWS = {"scan": scan, "plan": plan, "start-up": start_up}
