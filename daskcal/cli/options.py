"""Options that several commands have, and what they do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from daskcal.cli.status import say
from daskcal.errors import ArgumentError

config_option = click.option(
    "-c", "--config", metavar="CONFIG", help="Config file, or the name of a shipped camera."
)
select_option = click.option(
    "--select", metavar="QUERY", help="Use only such frames: \"filter == 'V' and exptime > 10\"."
)
exclude_option = click.option(
    "--exclude", metavar="GLOB", multiple=True, help="Leave out files of such a name; repeatable."
)
library_option = click.option(
    "--library", metavar="DIR", help="Masters of many nights: for what the night itself lacks."
)
memory_option = click.option(
    "--memory", metavar="SIZE", help="Memory to use, of each worker, such as 4GB."
)


def worker_options(command: Any) -> Any:
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
def computing(options: dict[str, Any]) -> Iterator[None]:
    """Take those of `worker_options` out of `options`, and compute on those workers meanwhile."""
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
        say(
            f"{len(client.scheduler_info()['workers'])} workers; see {client.dashboard_link}",
            err=True,
        )
        yield
