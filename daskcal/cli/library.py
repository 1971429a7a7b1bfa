"""Commands on a library of masters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from daskcal.cli.options import config_option
from daskcal.cli.status import Commands, exit_status, say
from daskcal.errors import ArgumentError

if TYPE_CHECKING:
    from daskcal.masters.library import Library


@click.group("library", cls=Commands)
def library() -> None:
    """List, add, reject and explain the masters of a library, the folder DIR."""


@library.command("ls")
@click.argument("folder", metavar="DIR")
def library_ls(folder: str) -> None:
    """List the masters: night, kind, filter, exposure, and why one is rejected."""
    with exit_status():
        from daskcal.masters.library import listing

        say(listing(_existing(folder).masters()))


@library.command("add")
@click.argument("folder", metavar="DIR")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def library_add(folder: str, files: tuple[str, ...]) -> None:
    """Add masters; files that are masters of daskcal, or of another program."""
    with exit_status():
        from daskcal.masters.library import Library

        for file in files:
            master, new = Library(folder).add(file)
            rejected = f", rejected: {master.rejected}" if master.rejected else ""
            say(f"{master.name}: {'added' if new else 'was there already'}{rejected}")


@library.command("reject")
@click.argument("folder", metavar="DIR")
@click.argument("name", metavar="NAME")
@click.option("--reason", metavar="TEXT", help="Why it must not be used.")
@click.option("--undo", is_flag=True, help="Use it again.")
def library_reject(folder: str, name: str, reason: str | None, undo: bool) -> None:
    """Take a master out of use; its file stays."""
    with exit_status():
        if undo == (reason is not None):
            raise click.UsageError("give one of --reason TEXT and --undo")
        if reason is None:
            say(f"{_existing(folder).accept(name).name}: used again")
        else:
            say(f"{_existing(folder).reject(name, reason).name}: rejected")


@library.command("why")
@click.argument("folder", metavar="DIR")
@click.argument("frame", metavar="FRAME")
@config_option
def library_why(folder: str, frame: str, config: str | None) -> None:
    """Tell which masters would serve a frame, and by which rule each other fails."""
    with exit_status():
        from daskcal.night.library import library_why as told

        _existing(folder)
        say(told(folder, frame, config))


def _existing(folder: str) -> Library:
    from daskcal.masters.library import Library

    if not Path(folder).is_dir():
        raise ArgumentError(f"{folder} is not a folder; give that of the library")
    return Library(folder)
