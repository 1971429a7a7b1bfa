"""Commands to begin with: a config, and a simulated night."""

from __future__ import annotations

import shlex

import click

from daskcal.cli.status import exit_status, say
from daskcal.errors import ArgumentError


@click.command("config")
@click.option(
    "--template", "what", flag_value="template", help="Print every key, with its meaning."
)
@click.option("--list", "what", flag_value="list", help="List the shipped cameras.")
@click.option("--check", metavar="FILE", help="Check a config file.")
def config(what: str | None, check: str | None) -> None:
    """Print a template, check a config, or list the shipped cameras."""
    with exit_status():
        from daskcal.night.config.read import camera_names, load_camera, load_config
        from daskcal.night.config.template import template

        if (what is None) == (check is None):
            raise click.UsageError("give one of --template, --list and --check FILE")
        if check is not None:
            load_config(check)
            say(f"{check}: is a valid config")
        elif what == "template":
            click.echo(template(), nl=False)
        else:
            for name in camera_names():
                click.echo(f"{name:16}{load_camera(name).instrument.name or ''}")


@click.command("simulate")
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
    with exit_status():
        from daskcal.simulate import simulate_night

        shape = None if size is None else _size(size)
        wrong: dict[str, list[str]] = {}
        for kind, glob in faults:
            wrong.setdefault(kind, []).append(glob)
        night = simulate_night(
            output, camera, size=shape, seed=seed, days=days, faults=wrong, overwrite=overwrite
        )
        folder, config = (shlex.quote(str(path)) for path in (night.folder, night.config))
        say(f"{night.folder}: {len(night.files)} raw frames")
        say(f"next: daskcal reduce {folder} -c {config} -o REDUCED")


def _size(text: str) -> tuple[int, int]:
    parts = text.replace("x", ",").split(",")
    try:
        rows, columns = (int(part) for part in parts)
    except ValueError:
        raise ArgumentError(f"--size {text!r} should be rows and columns: 1024,1024") from None
    return rows, columns
