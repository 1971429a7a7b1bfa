"""The command that combines files into one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from daskcal.cli.options import memory_option
from daskcal.cli.status import SKIPPED, compiling_told, exit_status, say
from daskcal.errors import ArgumentError, choose

REJECTIONS = (
    "sigma", "minmax", "percentile", "winsorised", "linear_fit", "esd", "averaged_sigma",
    "variance", "ccdclip", "crreject", "none",
)  # fmt: skip
# Options of rejections: the option, the type of its value, and what it is.
OF_REJECTIONS: dict[str, tuple[str, Any, str]] = {
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
    for name, (option, kind, text) in reversed(OF_REJECTIONS.items()):
        metavar = "F|auto" if name == "sigma_floor" else None
        command = click.option(option, name, type=kind, metavar=metavar, help=text)(command)
    return command


_statistic = "median, mean or mode of its good pixels, or a header keyword."


@click.command("combine")
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
@memory_option
def combine(
    files: tuple[str, ...],
    output: str,
    reject: str,
    unit: str | None,
    memory: str | None,
    **options: Any,
) -> None:
    """Combine FITS files into one, leaving outliers out. Of folders, earlier results are left out
    too, where there are raw frames."""
    with exit_status(), _warnings_said() as warned, compiling_told(_note):
        given = {key: value for key, value in options.items() if value is not None}
        _check_rejection(reject, given)
        import dask

        import daskcal
        from daskcal.combination.facts import oddities
        from daskcal.fits.urls import absolute, folder_of
        from daskcal.night.output.fit import check_targets
        from daskcal.night.output.place import place_of

        place, name = place_of(folder_of(absolute(output))), os.path.basename(output)
        place.probe()
        with dask.config.set({} if memory is None else {"daskcal.memory": memory}):
            frames = daskcal.open_frames(files, unit=unit)
            check_targets(place, [name], map(str, frames["path"].values))
            made = daskcal.combine(frames, reject=reject, **given)
            for remark in oddities(frames):
                _note(remark)
            made.attrs["inputs"] = [Path(path).name for path in made.attrs["inputs"]]
            daskcal.to_fits(made, output, overwrite=True)
        say(f"{output}: {frames.sizes['frame']} frames combined")
    if warned:
        sys.exit(SKIPPED)


def _note(text: str) -> None:
    say(f"Note: {text}", err=True)


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
        option = OF_REJECTIONS.get(name)
        if option is not None and name not in OPTIONS[reject]:
            having = [word for word, names in OPTIONS.items() if name in names]
            raise ArgumentError(
                f"{option[0]} is not for --reject {reject}, but {', '.join(having)}"
            )


@contextlib.contextmanager
def _warnings_said() -> Iterator[list[str]]:
    """What daskcal warns of goes to standard error, a line each; the list has it afterwards."""
    import warnings

    from daskcal.errors import DaskcalWarning, ProductWarning

    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DaskcalWarning)
        yield said
    for one in caught:
        if issubclass(one.category, ProductWarning):  # nothing that should be there is missing
            _note(str(one.message))
        elif issubclass(one.category, DaskcalWarning):
            said.append(str(one.message))
            say(str(one.message), err=True)
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
