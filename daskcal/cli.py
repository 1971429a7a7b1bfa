"""The command line. Heavy imports wait inside the commands, so that --help answers at once."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from daskcal import __version__
from daskcal.errors import (
    ArgumentError,
    ConfigError,
    DaskcalError,
    FrameError,
    UnitError,
    choose,
    nearest,
)
from daskcal.printable import printable

if TYPE_CHECKING:
    from daskcal.masters.library import Library

USAGE, NOTHING, SKIPPED = 2, 1, 3  # exit statuses beside 0 and those of signals


class _Commands(click.Group):
    """Names the nearest command for one that does not exist."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            ctx.fail(f"no command {name!r}; {nearest(name, self.commands)}")
        return super().resolve_command(ctx, args)


class _Stopped(KeyboardInterrupt):
    """A signal asked to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, _: FrameType | None) -> NoReturn:
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_DFL)  # a second one stops at once
    raise _Stopped(number)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGINT and SIGTERM unwind the work, so that it can clear up after itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, _stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def _exit_status(log_format: str = "text") -> Iterator[None]:
    """Errors become one message for people and the exit status that belongs to them."""
    try:
        with _status_of_errors():
            yield
    except _Failed as failed:
        if log_format == "json":
            from daskcal.night.progress import JsonLines

            JsonLines().event("error", message=failed.message, exit_status=failed.code)
        else:
            _say(f"Error: {failed.message}", err=True)
        sys.exit(failed.code)


class _Failed(Exception):
    """What is to be said of an error, and the exit status."""

    def __init__(self, error: object, code: int) -> None:
        super().__init__(error, code)
        self.message, self.code = str(error), code


@contextlib.contextmanager
def _status_of_errors() -> Iterator[None]:
    try:
        with _stoppable():
            yield
    except (ArgumentError, ConfigError, UnitError) as error:
        raise _Failed(error, USAGE) from error
    except FrameError as error:
        raise _Failed(error, USAGE if error.reason == "missing" else NOTHING) from error
    except DaskcalError as error:
        raise _Failed(error, NOTHING) from error
    except _Stopped as stop:
        said = "stopped; files that are complete stay, and no other is left"
        raise _Failed(said, 128 + stop.number) from stop


def _say(text: str, err: bool = False) -> None:
    click.echo(printable(text), err=err)


def _command_line() -> str:
    return shlex.join(["daskcal", *sys.argv[1:]])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="daskcal")
def main() -> None:
    """Reduce astronomical CCD frames: calibrate them and combine them, lazily."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # not every stand-in for a stream can
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


_config = click.option(
    "-c", "--config", metavar="CONFIG", help="Config file, or the name of a shipped camera."
)
_select = click.option(
    "--select", metavar="QUERY", help="Use only such frames: \"filter == 'V' and exptime > 10\"."
)
_exclude = click.option(
    "--exclude", metavar="GLOB", multiple=True, help="Leave out files of such a name; repeatable."
)
_library = click.option(
    "--library", metavar="DIR", help="Masters of many nights: for what the night itself lacks."
)
_memory = click.option(
    "--memory", metavar="SIZE", help="Memory to use, of each worker, such as 4GB."
)


def _workers(command: Any) -> Any:
    """The command with the options that say where it is computed; threads without one."""
    for option, kind, metavar, text in reversed(
        (
            ("--workers", int, "N", "Compute on N processes of this machine."),
            ("--scheduler", str, "ADDRESS", "Compute on a running scheduler: tcp:// or tls://."),
            ("--scheduler-file", str, "FILE", "Where a running scheduler has left its address."),
            ("--slurm", str, "PROFILE", "Compute on SLURM: a jobqueue section, or a YAML file."),
        )
    ):
        command = click.option(option, type=kind, metavar=metavar, help=text)(command)
    return command


@contextlib.contextmanager
def _computing(options: dict[str, Any]) -> Iterator[None]:
    """Take the options of `_workers` out of `options`, and compute on those workers meanwhile."""
    names = ("workers", "scheduler", "scheduler_file", "slurm")
    given = {name: options.pop(name) for name in names}
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen:
        yield
        return
    if len(chosen) > 1:
        said = " and ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise ArgumentError(f"{said} exclude each other: give one of them")
    from daskcal.workers import cluster

    with cluster(**chosen) as client:
        _say(
            f"{len(client.scheduler_info()['workers'])} workers; see {client.dashboard_link}",
            err=True,
        )
        yield


@main.command("ls")
@click.argument("paths", metavar="DIR|FILES...", nargs=-1, required=True)
def ls(paths: tuple[str, ...]) -> None:
    """List frames: type, exposure, filter, ... and what cannot be read, and why."""
    with _exit_status():
        from daskcal.fits import scan
        from daskcal.frames.assembled import assembled
        from daskcal.frames.instrument import Instrument
        from daskcal.frames.listing import listing

        found = assembled(scan(paths, detectors=True), Instrument())
        _say(listing(found))
        if not found.frames:
            raise FrameError(", ".join(paths), "no-image", "no FITS frame is here")
    if found.unreadable:
        sys.exit(SKIPPED)


@main.command("plan")
@click.argument("raw")
@_config
@click.option("-o", "--output", metavar="OUT", help="Folder the products would go to.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for machines.")
@_select
@_exclude
@_library
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
    with _exit_status():
        from daskcal.night.plan import plan_night

        found = plan_night(
            raw, config, select=select, exclude=exclude, output=output, library=library
        )
        _say(found.to_json() if as_json else str(found))
        if output is not None:
            from daskcal.night.plan_text import room_text
            from daskcal.night.reuse import look_ahead

            lines = [room_text(found, Path(output)), *look_ahead(found, Path(output))]
            _say("\n".join(lines), err=as_json)
    if found.missing or found.unreadable:
        sys.exit(SKIPPED)


@main.command("reduce")
@click.argument("raw")
@click.option("-o", "--output", metavar="OUT", required=True, help="Folder for the products.")
@_config
@click.option("--format", type=click.Choice(["fits", "zarr"]), help="Of science frames.")
@click.option("--products", metavar="LIST", help="Planes to write: image,uncert,mask.")
@click.option(
    "--compress",
    type=click.Choice(["none", "rice"]),
    help="Of FITS science frames; rice puts the image into HDU 1.",
)
@click.option("--keep-calibrated", is_flag=True, default=None, help="Write OUT/calibrated too.")
@_select
@_exclude
@_library
@_memory
@_workers
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="json: an object a line for each event, on standard error.",
)
def reduce(raw: str, output: str, log_format: str, **options: Any) -> None:
    """Reduce a night: masters, science frames, a ledger and a report. What is there already and as
    it should be stays; the same command finishes a run that was interrupted."""
    with _exit_status(log_format):
        from daskcal.night.progress import JsonLines, watch
        from daskcal.night.run import reduce_night
        from daskcal.night.summary import summary

        if options["products"] is not None:
            options["products"] = _products(options["products"])
        with _computing(options), watch(log_format) as watcher:
            ledger = reduce_night(raw, output, command=_command_line(), watch=watcher, **options)
        if isinstance(watcher, JsonLines):
            watcher.summary(ledger)
        _say(summary(ledger, Path(output)))
    sys.exit(ledger.exit_status())


def _products(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        choose("--products", word, ("image", "uncert", "mask"))
    return words


@main.command("mark-bad")
@click.argument("frames", metavar="FRAME...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", default="", help="Why; for the ledger and the report.")
@click.option("--undo", is_flag=True, help="Take the marks back.")
@click.option(
    "-o", "--output", metavar="OUT", help="Keep the marks in OUT, not in the frames' own folder."
)
def mark_bad(frames: tuple[str, ...], reason: str, undo: bool, output: str | None) -> None:
    """Mark raw frames as bad: the next plan leaves them out, and remakes what was made of them."""
    with _exit_status():
        import daskcal

        if undo == bool(reason):
            raise ArgumentError("give --reason TEXT, or --undo")
        if undo:
            files = daskcal.unmark_bad(frames, output=output)
        else:
            files = daskcal.mark_bad(frames, reason, output=output)
        done = f"no longer marked bad in {files[0]}" if undo else f"marked bad in {files[0]}"
        for frame in frames:
            _say(f"{frame}: {done if len(files) == 1 else done.rpartition(' in ')[0]}")


REJECTIONS = (
    "sigma", "minmax", "percentile", "winsorised", "linear_fit", "esd", "averaged_sigma",
    "variance", "ccdclip", "crreject", "none",
)  # fmt: skip
# Options of rejections: the option, the type of its value, and what it is.
_OF_REJECTIONS: dict[str, tuple[str, Any, str]] = {
    "low": ("--low", float, "σ below the centre [5]; percentile: share of it [0.2]; "
            "minmax: lowest values, or which share [1]. inf: off."),
    "high": ("--high", float, "σ above it [5]; percentile: share of it [0.1]; "
             "minmax: highest values, or which share [1]. inf: off."),
    "center": ("--center", click.Choice(["median", "mean"]), "Centre [median]."),
    "spread": ("--spread", click.Choice(["mad_std", "std"]), "sigma: spread [mad_std]."),
    "maxiters": ("--maxiters", int, "How often [until nothing changes]."),
    "sigma_floor": ("--sigma-floor", str, "Smallest σ, or auto [auto]."),
    "n_keep": ("--n-keep", int, "So many values stay, those nearest the centre [0]."),
    "fraction": ("--fraction", float, "esd: largest share of outliers [0.3]."),
    "significance": ("--significance", float, "esd: chance of a false one [0.05]."),
    "snoise": ("--snoise", float, "ccdclip, crreject: sensitivity noise, of the signal [0]."),
}  # fmt: skip


def _of_rejections(command: Any) -> Any:
    """The command with the options of all rejections."""
    for name, (option, kind, text) in reversed(_OF_REJECTIONS.items()):
        metavar = "F|auto" if name == "sigma_floor" else None
        command = click.option(option, name, type=kind, metavar=metavar, help=text)(command)
    return command


_statistic = "median, mean or mode of its good pixels, or a header keyword."


@main.command("combine")
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT.fits", required=True, help="The combined image.")
@click.option(
    "--method", type=click.Choice(["average", "median", "lower_median", "sum"]), default="average"
)
@click.option(
    "--reject", metavar="NAME", default="sigma", help=f"One of {', '.join(REJECTIONS)} [sigma]."
)
@_of_rejections
@click.option("--grow", type=float, metavar="R", help="Reject within R pixels of it too [0].")
@click.option("--scale", metavar="WORD", help=f"Divide each frame by this: {_statistic}")
@click.option("--zero", metavar="WORD", help="Subtract this from each frame first; as --scale.")
@click.option("--weights", metavar="WORD", help="Weight of each frame; or inverse_variance.")
@click.option(
    "--section", metavar="SECTION", help='Pixels for those: "[100:200, :]" or "fits [1:9,1:9]".'
)
@click.option("--unit", type=click.Choice(["adu", "electron"]), help="Where BUNIT does not say.")
@_memory
def combine(
    files: tuple[str, ...],
    output: str,
    reject: str,
    unit: str | None,
    memory: str | None,
    **options: Any,
) -> None:
    """Combine FITS files into one, leaving outliers out."""
    with _exit_status(), _warnings_said() as warned:
        given = {key: value for key, value in options.items() if value is not None}
        _check_rejection(reject, given)
        import dask

        import daskcal
        from daskcal.combination.facts import oddities
        from daskcal.night.output import check_targets, require_here

        target = require_here(output)
        with dask.config.set({} if memory is None else {"daskcal.memory": memory}):
            frames = daskcal.open_frames(files, unit=unit)
            check_targets(target.parent, [target.name], map(str, frames["path"].values))
            made = daskcal.combine(frames, reject=reject, **given)
            for remark in oddities(frames):
                _say(f"Note: {remark}", err=True)
            made.attrs["inputs"] = [Path(path).name for path in made.attrs["inputs"]]
            daskcal.to_fits(made, output, overwrite=True)
        _say(f"{output}: {frames.sizes['frame']} frames combined")
    if warned:
        sys.exit(SKIPPED)


def _check_rejection(reject: str, given: dict[str, Any]) -> None:
    """Check options of rejections under their names here, and make them those of `combine`."""
    choose("--reject", reject, REJECTIONS)
    floor = given.get("sigma_floor", "auto")
    if floor != "auto":
        given["sigma_floor"] = _number("--sigma-floor", floor)
    if reject == "minmax":  # the same two words, as numbers of values
        for side in ("low", "high"):
            if side in given:
                given[f"n_{side}"] = _count(f"--{side}", given.pop(side))
    from daskcal.combination.reject import OPTIONS

    for name in given:
        option = _OF_REJECTIONS.get(name)
        if option is not None and name not in OPTIONS[reject]:
            having = [word for word, names in OPTIONS.items() if name in names]
            raise ArgumentError(
                f"{option[0]} is not for --reject {reject}, but {', '.join(having)}"
            )


@contextlib.contextmanager
def _warnings_said() -> Iterator[list[str]]:
    """What daskcal warns of goes to standard error, a line each; the list has it afterwards."""
    import warnings

    from daskcal.errors import DaskcalWarning

    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DaskcalWarning)
        yield said
    for one in caught:
        if issubclass(one.category, DaskcalWarning):
            said.append(str(one.message))
            _say(str(one.message), err=True)
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _count(option: str, value: float) -> float:
    if 0 < value < 1:
        return value
    if not value.is_integer() or value < 0:
        raise ArgumentError(
            f"{option} {value:g} should be a whole number or a fraction below 1 with --reject "
            "minmax"
        )
    return int(value)


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{option} {text!r} should be a number or 'auto'") from None


@main.command("config")
@click.option(
    "--template", "what", flag_value="template", help="Print every key, with its meaning."
)
@click.option("--list", "what", flag_value="list", help="List the shipped cameras.")
@click.option("--check", metavar="FILE", help="Check a config file.")
def config(what: str | None, check: str | None) -> None:
    """Print a template, check a config, or list the shipped cameras."""
    with _exit_status():
        from daskcal.night.config import camera_names, load_camera, load_config
        from daskcal.night.template import template

        if (what is None) == (check is None):
            raise click.UsageError("give one of --template, --list and --check FILE")
        if check is not None:
            load_config(check)
            _say(f"{check}: is a valid config")
        elif what == "template":
            click.echo(template(), nl=False)
        else:
            for name in camera_names():
                click.echo(f"{name:16}{load_camera(name).instrument.name or ''}")


@main.command("simulate")
@click.argument("output", metavar="OUT")
@click.option("--camera", default="generic", help="generic, lfc, aspen-cg16m or mosaic [generic].")
@click.option("--size", metavar="NY,NX", help="Rows and columns of the imaging area.")
@click.option("--seed", type=int, default=0, help="Another number, another night [0].")
@click.option("--days", type=int, default=0, help="Nights later, with the same detector [0].")
@click.option(
    "--fault",
    "faults",
    nargs=2,
    multiple=True,
    metavar="KIND GLOB",
    help="What is wrong with which frames, such as: light-leak 'n0004'; another word lists them.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier simulated night.")
def simulate(
    output: str,
    camera: str,
    size: str | None,
    seed: int,
    days: int,
    faults: tuple[tuple[str, str], ...],
    overwrite: bool,
) -> None:
    """Make a night of raw frames with known truth, and a config for it."""
    with _exit_status():
        from daskcal.simulate import simulate_night

        shape = None if size is None else _size(size)
        wrong: dict[str, list[str]] = {}
        for kind, glob in faults:
            wrong.setdefault(kind, []).append(glob)
        night = simulate_night(
            output, camera, size=shape, seed=seed, days=days, faults=wrong, overwrite=overwrite
        )
        folder, config = (shlex.quote(str(path)) for path in (night.folder, night.config))
        _say(f"{night.folder}: {len(night.files)} raw frames")
        _say(f"next: daskcal reduce {folder} -c {config} -o REDUCED")


def _size(text: str) -> tuple[int, int]:
    parts = text.replace("x", ",").split(",")
    try:
        rows, columns = (int(part) for part in parts)
    except ValueError:
        raise ArgumentError(f"--size {text!r} should be rows and columns: 1024,1024") from None
    return rows, columns


@main.command("show")
@click.argument("file", metavar="FILE.fits")
@click.option("-o", "--output", metavar="FILE.png", required=True, help="The picture.")
def show(file: str, output: str) -> None:
    """Make a picture of a FITS image, stretched between percentiles."""
    with _exit_status():
        from daskcal.plot import show as picture

        if not output.lower().endswith(".png"):  # a slip would replace a FITS file by a picture
            raise ArgumentError(f"-o {output!r} should end in .png: it is a picture")
        picture(file, output)
        _say(output)


@main.command("report")
@click.argument("output", metavar="OUT")
def report(output: str) -> None:
    """Write a reduced night's HTML report again."""
    with _exit_status():
        from daskcal.night.ledger import read_ledger
        from daskcal.night.report import write_report

        _say(str(write_report(output, read_ledger(Path(output) / "night.json"))))


_raw = click.option("--raw", metavar="DIR", help="Folder of the raw frames [of the ledger].")
_made_with = click.option("--library", metavar="DIR", help="Library of masters [of the ledger].")


@main.command("why")
@click.argument("product", metavar="PRODUCT")
@_raw
@_made_with
def why(product: str, raw: str | None, library: str | None) -> None:
    """Tell what a product was made of: frames, masters, theirs, steps and rules."""
    with _exit_status():
        from daskcal.night.why import why as tree

        _say(str(tree(product, raw=raw, library=library)))


@main.command("rerun")
@click.argument("product", metavar="PRODUCT")
@click.option("-o", "--output", metavar="FILE", help="Keep the new file [it is only compared].")
@_raw
@_made_with
def rerun(product: str, output: str | None, raw: str | None, library: str | None) -> None:
    """Make a product again from its header, and tell whether the bits are the same."""
    with _exit_status():
        from daskcal.night.remake import rerun as again

        found = again(product, output, raw=raw, library=library)
        _say(str(found))
    if not found.equal:
        sys.exit(NOTHING)


@main.group("library", cls=_Commands)
def library() -> None:
    """List, add, reject and explain the masters of a library, the folder DIR."""


@library.command("ls")
@click.argument("folder", metavar="DIR")
def library_ls(folder: str) -> None:
    """List the masters: night, kind, filter, exposure, and why one is rejected."""
    with _exit_status():
        from daskcal.masters.library import listing

        _say(listing(_existing(folder).masters()))


@library.command("add")
@click.argument("folder", metavar="DIR")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def library_add(folder: str, files: tuple[str, ...]) -> None:
    """Add masters; files that are masters of daskcal, or of another program."""
    with _exit_status():
        from daskcal.masters.library import Library

        for file in files:
            master, new = Library(folder).add(file)
            rejected = f", rejected: {master.rejected}" if master.rejected else ""
            _say(f"{master.name}: {'added' if new else 'was there already'}{rejected}")


@library.command("reject")
@click.argument("folder", metavar="DIR")
@click.argument("name", metavar="NAME")
@click.option("--reason", metavar="TEXT", help="Why it must not be used.")
@click.option("--undo", is_flag=True, help="Use it again.")
def library_reject(folder: str, name: str, reason: str | None, undo: bool) -> None:
    """Take a master out of use; its file stays."""
    with _exit_status():
        if undo == (reason is not None):
            raise click.UsageError("give one of --reason TEXT and --undo")
        if reason is None:
            _say(f"{_existing(folder).accept(name).name}: used again")
        else:
            _say(f"{_existing(folder).reject(name, reason).name}: rejected")


@library.command("why")
@click.argument("folder", metavar="DIR")
@click.argument("frame", metavar="FRAME")
@_config
def library_why(folder: str, frame: str, config: str | None) -> None:
    """Tell which masters would serve a frame, and by which rule each other fails."""
    with _exit_status():
        from daskcal.night.library import library_why as told

        _existing(folder)
        _say(told(folder, frame, config))


def _existing(folder: str) -> Library:
    from daskcal.masters.library import Library

    if not Path(folder).is_dir():
        raise ArgumentError(f"{folder} is not a folder; give that of the library")
    return Library(folder)
