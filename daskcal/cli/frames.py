"""Commands on frames and files: list them, show one."""

from __future__ import annotations

import sys

import click

from daskcal.cli.status import SKIPPED, exit_status, say
from daskcal.errors import ArgumentError, FrameError


@click.command("ls")
@click.argument("paths", metavar="DIR|FILES...", nargs=-1, required=True)
def ls(paths: tuple[str, ...]) -> None:
    """List frames: type, exposure, filter, ... and what cannot be read, and why."""
    with exit_status():
        from daskcal.fits import scan
        from daskcal.frames.assembled import assembled
        from daskcal.frames.instrument import Instrument
        from daskcal.frames.listing import listing

        found = assembled(scan(paths, detectors=True), Instrument())
        say(listing(found))
        if not found.frames:
            raise FrameError(", ".join(paths), "no-image", "no FITS frame is here")
    if found.unreadable:
        sys.exit(SKIPPED)


@click.command("show")
@click.argument("file", metavar="FILE.fits")
@click.option("-o", "--output", metavar="FILE.png", required=True, help="The picture.")
@click.option("--hdu", metavar="N|NAME", help="Another HDU than the first image.")
@click.option("--stretch", default="linear", help="linear, sqrt, asinh or log [linear].")
@click.option("--percent", default=99.0, help="Of the pixels, between black and white [99].")
def show(file: str, output: str, hdu: str | None, stretch: str, percent: float) -> None:
    """Make a picture of a FITS image, stretched between percentiles; masked pixels are blue."""
    with exit_status():
        from daskcal.plot import write_png

        if not output.lower().endswith(".png"):  # a slip would replace a FITS file by a picture
            raise ArgumentError(f"-o {output!r} should end in .png: it is a picture")
        number = int(hdu) if hdu is not None and hdu.isdecimal() else hdu
        write_png(file, output, hdu=number, stretch=stretch, percent=percent)
        say(output)
