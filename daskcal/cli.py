"""The command line. Heavy imports wait inside the commands, so that --help answers at once."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daskcal import __version__
from daskcal.errors import ArgumentError, ConfigError, DaskcalError, FrameError, UnitError, nearest

if TYPE_CHECKING:
    from daskcal.night.ledger import Ledger

USAGE, NOTHING, SKIPPED = 2, 1, 3  # exit statuses beside 0


class _Commands(click.Group):
    """Names the nearest command for one that does not exist."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            ctx.fail(f"no command {name!r}; {nearest(name, self.commands)}")
        return super().resolve_command(ctx, args)


@contextlib.contextmanager
def _exit_status() -> Iterator[None]:
    """Errors become one message for people and the exit status that belongs to them."""
    try:
        yield
    except (ArgumentError, ConfigError, UnitError) as error:
        raise _failure(error, USAGE) from None
    except FrameError as error:
        raise _failure(error, USAGE if error.reason == "missing" else NOTHING) from None
    except DaskcalError as error:
        raise _failure(error, NOTHING) from None


def _failure(error: Exception, status: int) -> click.ClickException:
    failure = click.ClickException(str(error))
    failure.exit_code = status
    return failure


def _command_line() -> str:
    return shlex.join(["daskcal", *sys.argv[1:]])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="daskcal")
def main() -> None:
    """Reduce astronomical CCD frames: calibrate them and combine them, lazily."""


_config = click.option(
    "-c", "--config", metavar="CONFIG", help="Config file, or the name of a shipped camera."
)
_select = click.option(
    "--select", metavar="QUERY", help="Use only such frames: \"filter == 'V' and exptime > 10\"."
)
_exclude = click.option(
    "--exclude", metavar="GLOB", multiple=True, help="Leave out files of such a name; repeatable."
)
_memory = click.option("--memory", metavar="SIZE", help="Memory to use, such as 4GB.")


@main.command("ls")
@click.argument("paths", metavar="DIR|FILES...", nargs=-1, required=True)
def ls(paths: tuple[str, ...]) -> None:
    """List frames: type, exposure, filter, ... and what cannot be read, and why."""
    with _exit_status():
        from daskcal.fits import scan
        from daskcal.frames.listing import listing

        found = scan(paths)
        click.echo(listing(found))
        if not found.frames:
            raise FrameError(", ".join(paths), "no-image", "no FITS frame is here")
    if found.unreadable:
        sys.exit(SKIPPED)


@main.command("plan")
@click.argument("raw")
@_config
@click.option("-o", "--output", metavar="OUT", help="Folder the products would go to.")
@_select
@_exclude
def plan(
    raw: str, config: str | None, output: str | None, select: str | None, exclude: tuple[str, ...]
) -> None:
    """Tell what a night would make, from what, and why. No pixel is read."""
    with _exit_status():
        from daskcal.night.plan import plan_night

        found = plan_night(raw, config, select=select, exclude=exclude)
        click.echo(str(found))
        if output is not None:
            from daskcal.night.plan_text import room_text

            click.echo(room_text(found, Path(output)))
    if found.missing or found.unreadable or found.skipped:
        sys.exit(SKIPPED)


@main.command("reduce")
@click.argument("raw")
@click.option("-o", "--output", metavar="OUT", required=True, help="Folder for the products.")
@_config
@click.option("--format", type=click.Choice(["fits", "zarr"]), help="Of science frames.")
@click.option("--products", metavar="LIST", help="Planes to write: image,uncert,mask.")
@click.option("--compress", type=click.Choice(["none", "rice"]), help="Of FITS science frames.")
@click.option("--keep-calibrated", is_flag=True, default=None, help="Write OUT/calibrated too.")
@_select
@_exclude
@_memory
def reduce(raw: str, output: str, **options: Any) -> None:
    """Reduce a night: masters, science frames, a ledger and a report."""
    with _exit_status():
        from daskcal.night.progress import watch
        from daskcal.night.run import reduce_night

        if options["products"] is not None:
            options["products"] = _products(options["products"])
        with watch() as watcher:
            ledger = reduce_night(raw, output, command=_command_line(), watch=watcher, **options)
        click.echo(_summary(ledger, Path(output)))
    sys.exit(ledger.exit_status())


def _products(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    valid = ("image", "uncert", "mask")
    for word in words:
        if word not in valid:
            raise ArgumentError(f"--products: {word!r} is none; {nearest(word, valid)}")
    return words if "image" in words else ("image", *words)


def _summary(ledger: Ledger, output: Path) -> str:
    counts = ledger.counts()
    lines = []
    for entry in ledger.frames:
        if entry.status != "used":
            lines.append(f"{entry.status}: {entry.path}: {entry.reason}")
    for product in ledger.products:
        if product.status != "made":
            lines.append(f"{product.status}: {product.name}: {product.reason}")
    made = sum(product.status == "made" for product in ledger.products)
    lines.append(
        f"{counts.found} frames found: {counts.used} used, {counts.skipped} skipped, "
        f"{counts.failed} failed; {made} of {len(ledger.products)} products made"
    )
    lines.append(f"report: {output / 'report' / 'index.html'}")
    return "\n".join(lines)


@main.command("combine")
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT.fits", required=True, help="The combined image.")
@click.option("--method", type=click.Choice(["average", "median", "sum"]), default="average")
@click.option("--reject", type=click.Choice(["sigma", "minmax", "none"]), default="sigma")
@click.option("--low", type=float, help="Sigma: threshold below the centre, in σ [5].")
@click.option("--high", type=float, help="Sigma: threshold above the centre, in σ [5].")
@click.option("--center", type=click.Choice(["median", "mean"]), help="Sigma: centre [median].")
@click.option("--spread", type=click.Choice(["mad_std", "std"]), help="Sigma: spread [mad_std].")
@click.option("--maxiters", type=int, help="Sigma: how often [until nothing changes].")
@click.option("--sigma-floor", metavar="F|auto", help="Sigma: smallest σ [auto].")
@click.option("--scale", type=click.Choice(["median", "mean"]), help="Divide each frame by it.")
@click.option("--unit", type=click.Choice(["adu", "electron"]), help="Where BUNIT does not say.")
@_memory
def combine(
    files: tuple[str, ...],
    output: str,
    method: str,
    reject: str,
    scale: str | None,
    unit: str | None,
    memory: str | None,
    **options: Any,
) -> None:
    """Combine FITS files into one, leaving outliers out."""
    with _exit_status():
        import dask

        import daskcal

        given = {key: value for key, value in options.items() if value is not None}
        if given.get("sigma_floor", "auto") != "auto":
            given["sigma_floor"] = _number("--sigma-floor", given["sigma_floor"])
        with dask.config.set({} if memory is None else {"daskcal.memory": memory}):
            frames = daskcal.open_frames(files, unit=unit)
            made = daskcal.combine(frames, method=method, reject=reject, scale=scale, **given)
            made.attrs["inputs"] = [Path(path).name for path in made.attrs["inputs"]]
            daskcal.to_fits(made, output, overwrite=_is_ours(Path(output)))
        click.echo(f"{output}: {frames.sizes['frame']} frames combined")


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{option} {text!r} should be a number or 'auto'") from None


def _is_ours(output: Path) -> bool:
    """Whether a file may be replaced: one that daskcal made, never a raw frame."""
    if not output.exists():
        return False
    from daskcal.fits import is_product, scan

    found = scan(output)
    return bool(found.frames) and is_product(found.frames[0].header)


@main.command("config")
@click.option("--template", "what", flag_value="template", help="Print every key, with its meaning.")
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
            click.echo(f"{check}: is a valid config")
        elif what == "template":
            click.echo(template(), nl=False)
        else:
            for name in camera_names():
                click.echo(f"{name:16}{load_camera(name).instrument.name or ''}")


@main.command("simulate")
@click.argument("output", metavar="OUT")
@click.option("--camera", default="generic", help="generic, lfc or aspen-cg16m [generic].")
@click.option("--size", metavar="NY,NX", help="Rows and columns of the imaging area.")
@click.option("--seed", type=int, default=0, help="Another number, another night [0].")
def simulate(output: str, camera: str, size: str | None, seed: int) -> None:
    """Make a night of raw frames with known truth, and a config for it."""
    with _exit_status():
        from daskcal.simulate import simulate_night

        night = simulate_night(output, camera, size=None if size is None else _size(size), seed=seed)
        click.echo(f"{night.folder}: {len(night.files)} raw frames")
        click.echo(f"next: daskcal reduce {shlex.quote(str(night.folder))} "
                   f"-c {shlex.quote(str(night.config))} -o REDUCED")  # fmt: skip


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

        picture(file, output)
        click.echo(output)


@main.command("report")
@click.argument("output", metavar="OUT")
def report(output: str) -> None:
    """Write a reduced night's HTML report again."""
    with _exit_status():
        from daskcal.night.ledger import read_ledger
        from daskcal.night.report import write_report

        click.echo(str(write_report(output, read_ledger(Path(output) / "night.json"))))
