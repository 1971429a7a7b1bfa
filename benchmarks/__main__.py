"""``python -m benchmarks``: measure the rows of the table and write them into the README."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click

from benchmarks import costs
from benchmarks.bench import Bench
from benchmarks.machine import describe, keep_to_two_cores
from benchmarks.rows import GROUPS, IDS
from benchmarks.tables import Maker, Row, markdown, refresh
from benchmarks.workers import BenchmarkError, tail_of_log


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rows", "wanted", metavar="IDS", help=f"Only these, of {', '.join(IDS)}.")
@click.option("--quick", is_flag=True, help="Small and once: prints tables, writes none.")
@click.option("--work", metavar="FOLDER", help="Where frames are made, up to 4 GB; removed after.")
def main(wanted: str | None, quick: bool, work: str | None) -> None:
    """Measure daskcal beside its peers and the machine's limits; refresh benchmarks/README.md and
    the costs in docs/howto/deploy.md."""
    ids = _chosen(wanted)
    keep_to_two_cores()
    folder = Path(tempfile.mkdtemp(prefix="daskcal-benchmarks-", dir=work)).absolute()
    start = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - start:6.1f} s] {text}", err=True)

    try:
        rows, failures = _measure(Bench(quick, folder, say), ids)
        if failures:
            click.echo(tail_of_log(folder), err=True)
    finally:
        shutil.rmtree(folder)
    if quick:
        click.echo(markdown(rows))
    else:
        refresh(rows, IDS)
        costs.refresh()
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    sys.exit(1 if failures else 0)


def _chosen(wanted: str | None) -> list[str]:
    words = [word.strip() for word in wanted.split(",")] if wanted else list(IDS)
    for word in words:
        if word not in IDS:
            raise click.BadParameter(
                f"no row {word!r}; there are {', '.join(IDS)}", param_hint="--rows"
            )
    return words


def _measure(bench: Bench, ids: list[str]) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    failures: list[str] = []
    machine = tuple(describe(bench.work).items())
    for group in GROUPS:
        for id_, maker in group.items():
            if id_ in ids:
                bench.say(f"--- {id_}")
                _measure_one(bench, id_, maker, machine, rows, failures)
        bench.clear()
    return rows, failures


def _measure_one(
    bench: Bench,
    id_: str,
    maker: Maker,
    machine: tuple[tuple[str, str], ...],
    rows: list[Row],
    failures: list[str],
) -> None:
    try:
        row = replace(maker(bench), machine=machine)
    except BenchmarkError as error:
        failures.append(f"{id_}: {error}")
        return
    rows.append(row)
    failures += [f"{id_}: {failure}" for failure in row.failures]


if __name__ == "__main__":
    main()
