"""How a command ends: errors as one message for people, exit statuses, signals."""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

import click

from daskcal.errors import ArgumentError, ConfigError, DaskcalError, FrameError, UnitError, nearest
from daskcal.printable import printable

USAGE, NOTHING, SKIPPED = 2, 1, 3  # exit statuses beside 0 and those of signals


class Commands(click.Group):
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
def exit_status(log_format: str = "text") -> Iterator[None]:
    """Errors become one message for people and the exit status that belongs to them."""
    try:
        with _status_of_errors():
            yield
    except _Failed as failed:
        if log_format == "json":
            from daskcal.night.run.progress import JsonLines

            JsonLines().event("error", message=failed.message, exit_status=failed.code)
        else:
            say(f"Error: {failed.message}", err=True)
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


def say(text: str, err: bool = False) -> None:
    click.echo(printable(text), err=err)


@contextlib.contextmanager
def compiling_told(tell: Callable[[str], None]) -> Iterator[None]:
    """`tell` is told if loops are compiled meanwhile: else one would wonder why nothing moves."""
    logger = logging.getLogger("daskcal.compiled")
    handler, level = _Telling(tell), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Telling(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(record.getMessage())


def command_line() -> str:
    return shlex.join(["daskcal", *sys.argv[1:]])
