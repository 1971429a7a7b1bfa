"""Commands on a night: plan it, reduce it, mark its bad frames, tell and remake its products."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from daskcal.cli.options import (
    computing,
    config_option,
    exclude_option,
    library_option,
    memory_option,
    select_option,
    worker_options,
)
from daskcal.cli.status import (
    NOTHING,
    SKIPPED,
    command_line,
    compiling_told,
    exit_status,
    say,
)
from daskcal.errors import ArgumentError, choose


@click.command("plan")
@click.argument("raw")
@config_option
@click.option("-o", "--output", metavar="OUT", help="Folder or URL the products would go to.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for machines.")
@select_option
@exclude_option
@library_option
def plan(
    raw: str,
    config: str | None,
    output: str | None,
    as_json: bool,
    select: str | None,
    exclude: tuple[str, ...],
    library: str | None,
) -> None:
    """Tell what a night would make, from what, and why. No pixel is read."""
    with exit_status():
        from daskcal.night.plan.plan import plan_night

        found = plan_night(
            raw, config, select=select, exclude=exclude, output=output, library=library
        )
        say(found.to_json() if as_json else str(found))
        if output is not None:
            from daskcal.fits.urls import is_url
            from daskcal.night.output.place import place_of
            from daskcal.night.plan.text import room_text
            from daskcal.night.reuse.reuse import look_ahead

            room = [] if is_url(output) else [room_text(found, Path(output))]
            say("\n".join([*room, *look_ahead(found, place_of(output))]), err=as_json)
    if not found.jobs:
        sys.exit(NOTHING)
    if found.missing or found.unreadable:
        sys.exit(SKIPPED)


@click.command("reduce")
@click.argument("raw")
@click.option(
    "-o", "--output", metavar="OUT", required=True, help="Folder or URL for the products."
)
@config_option
@click.option("--format", type=click.Choice(["fits", "zarr"]), help="Of science frames.")
@click.option("--products", metavar="LIST", help="Planes to write: image,uncert,mask.")
@click.option(
    "--compress",
    type=click.Choice(["none", "rice"]),
    help="Of FITS science frames; rice puts the image into HDU 1.",
)
@click.option("--keep-calibrated", is_flag=True, default=None, help="Write OUT/calibrated too.")
@select_option
@exclude_option
@library_option
@memory_option
@worker_options
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="json: an object a line for each event, on standard error.",
)
def reduce(raw: str, output: str, log_format: str, **options: Any) -> None:
    """Reduce a night: masters, science frames, a ledger and a report. What is there already and as
    it should be stays; the same command finishes a run that was interrupted."""
    with exit_status(log_format):
        from daskcal.night.output.place import place_of
        from daskcal.night.run.progress import JsonLines, watch
        from daskcal.night.run.run import reduce_night
        from daskcal.night.run.summary import summary

        if options["products"] is not None:
            options["products"] = _products(options["products"])
        with (
            computing(options),
            watch(log_format) as watcher,
            compiling_told(watcher.note),
        ):
            ledger = reduce_night(raw, output, command=command_line(), watch=watcher, **options)
        if isinstance(watcher, JsonLines):
            watcher.summary(ledger)
        say(summary(ledger, place_of(output)))
    sys.exit(ledger.exit_status())


def _products(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        choose("--products", word, ("image", "uncert", "mask"))
    return words


@click.command("mark-bad")
@click.argument("frames", metavar="FRAME...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", default="", help="Why; for the ledger and the report.")
@click.option("--undo", is_flag=True, help="Take the marks back.")
@click.option(
    "-o", "--output", metavar="OUT", help="Keep the marks in OUT, not in the frames' own folder."
)
def mark_bad(frames: tuple[str, ...], reason: str, undo: bool, output: str | None) -> None:
    """Mark raw frames as bad: the next plan leaves them out, and remakes what was made of them."""
    with exit_status():
        import daskcal

        if undo == bool(reason):
            raise ArgumentError("give --reason TEXT, or --undo")
        if undo:
            files = daskcal.unmark_bad(frames, output=output)
        else:
            files = daskcal.mark_bad(frames, reason, output=output)
        done = f"no longer marked bad in {files[0]}" if undo else f"marked bad in {files[0]}"
        for frame in frames:
            say(f"{frame}: {done if len(files) == 1 else done.rpartition(' in ')[0]}")


@click.command("report")
@click.argument("output", metavar="OUT")
def report(output: str) -> None:
    """Write a reduced night's HTML report again."""
    with exit_status():
        from daskcal.night.ledger import read_ledger
        from daskcal.night.output.place import place_of
        from daskcal.night.report import write_report

        say(write_report(output, read_ledger(place_of(output).at("night.json"))))


_raw = click.option("--raw", metavar="DIR", help="Folder of the raw frames [of the ledger].")
_made_with = click.option("--library", metavar="DIR", help="Library of masters [of the ledger].")


@click.command("why")
@click.argument("product", metavar="PRODUCT")
@_raw
@_made_with
def why(product: str, raw: str | None, library: str | None) -> None:
    """Tell what a product was made of: frames, masters, theirs, steps and rules."""
    with exit_status():
        from daskcal.night.why import why as tree

        say(str(tree(product, raw=raw, library=library)))


@click.command("rerun")
@click.argument("product", metavar="PRODUCT")
@click.option("-o", "--output", metavar="FILE", help="Keep the new file [it is only compared].")
@_raw
@_made_with
def rerun(product: str, output: str | None, raw: str | None, library: str | None) -> None:
    """Make a product again from its header, and tell whether the bits are the same."""
    with exit_status():
        from daskcal.night.remake import rerun as again

        found = again(product, output, raw=raw, library=library)
        say(str(found))
    if not found.equal:
        sys.exit(NOTHING)
