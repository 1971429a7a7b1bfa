"""The command line. Heavy imports wait inside the commands, so that --help answers at once."""

from __future__ import annotations

import contextlib
import sys

import click

from daskcal import __version__
from daskcal.cli.combine import combine
from daskcal.cli.frames import ls, show
from daskcal.cli.library import library
from daskcal.cli.night import mark_bad, plan, reduce, report, rerun, why
from daskcal.cli.setup import config, simulate
from daskcal.cli.status import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="daskcal")
def main() -> None:
    """Reduce astronomical CCD frames: calibrate them and combine them, lazily."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # not every stand-in for a stream can
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


for _command in (ls, plan, reduce, combine, config, simulate, show, report, mark_bad, library, why,
                 rerun):  # fmt: skip
    main.add_command(_command)
