"""Frames of detectors with several amplifiers: one image each, in detector coordinates."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from daskcal.errors import FrameError, GeometryError, choose
from daskcal.fits import (
    AssembledImage,
    CardComments,
    Frame,
    FrameValues,
    ImageSource,
    Scan,
    Unreadable,
    is_product,
    normalise,
)
from daskcal.fits.amplifiers import SATURATION, Readout, positive, readouts
from daskcal.fits.assembled import Piece
from daskcal.fits.header import CARD, Value, parse
from daskcal.fits.product_header import moved_reference
from daskcal.frames.amplifier_geometry import Layout, Placed, lay_out
from daskcal.frames.amplifiers import CORNERS, VALUES, Amplifier
from daskcal.frames.instrument import AmplifierSetup, Instrument
from daskcal.frames.sections import after_fits

COORDINATES_LEFT_OUT = "the world coordinates are those of single amplifiers, and left out"
# what describes the raw array, or the place of one amplifier
_OF_RAW = re.compile(
    r"(?:DATA|BIAS|TRIM|CCD|DET|AMP|PRE|POST)SEC[0-9A-H]{0,2}|[ABCDT]SEC\d\d|AMPSIZE"
    r"|(?:LT|AT|DT)[VM]\d\w*"
)
_WORLD = re.compile(
    r"WCSAXES.?|WCSNAME.?|(?:CRPIX|CRVAL|CDELT|CROTA|CTYPE|CUNIT|CNAME|CRDER|CSYER)\d.?"
    r"|(?:PC|CD|PV|PS)\d+_\d+.?|(?:LON|LAT)POLE.?|(?:A|B|AP|BP)_(?:ORDER|\d_\d|DMAX)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorFrame(Frame):
    """A frame that is assembled of its amplifiers.

    Attributes
    ----------
    image : AssembledImage
        Where its pixels lie.
    amplifiers : tuple of Amplifier
        Where they lie.
    values : Mapping of str to tuple of float
        ``gain``, ``rdnoise`` and ``saturation`` of each; electron/adu, electron, adu, or NaN.
    origin : (int, int)
        Detector coordinates of the pixel [0, 0].
    origin_known : bool
        Whether header or camera tell where that is.
    """

    image: AssembledImage
    amplifiers: tuple[Amplifier, ...]
    values: Mapping[str, tuple[float, ...]]
    origin: tuple[int, int]
    origin_known: bool

    @property
    def pixels(self) -> AssembledImage:
        """Where the pixels of the whole image lie."""
        return self.image


def assembled(found: Scan, camera: Instrument) -> Scan:
    """What was scanned, the frames of several amplifiers assembled, as headers and camera say.

    A frame that cannot be is among the unreadable ones, with the reason.
    """
    frames: list[Frame] = []
    unreadable = list(found.unreadable)
    for frame in found.frames:
        try:
            frames.append(assemble(frame, camera))
        except FrameError as error:
            unreadable.append(Unreadable(error.path, error.hdu, error.reason, error.message))
    return Scan(tuple(frames), tuple(unreadable), found.ignored)


def assemble(frame: Frame, camera: Instrument) -> Frame:
    """The detector's frame of a raw frame; the same one where it has one amplifier.

    Raises
    ------
    FrameError
        ``geometry``: a section is malformed, leaves its HDU, or does not fit the others.
    """
    if is_product(frame.header):
        return frame
    try:
        described = _with_setups(readouts(frame, camera.keywords), camera.amplifiers)
        return _detector_frame(frame, described, camera) if described else frame
    except GeometryError as error:
        hdu = None if frame.parts else frame.source.hdu
        raise FrameError(frame.source.path, "geometry", str(error), hdu) from None


def _with_setups(
    described: tuple[Readout, ...], setups: Sequence[AmplifierSetup]
) -> tuple[Readout, ...]:
    """What headers say of amplifiers, and what the camera says of them in its place."""
    found = list(described)
    own: list[Readout] = []
    for setup in setups:
        same = [i for i, r in enumerate(described) if fnmatchcase(r.name, setup.name)]
        for i in same:
            found[i] = _changed(found[i], setup)
        if not same:
            own.append(_changed(Readout(setup.name), setup))
            if not setup.data_section:
                raise GeometryError(
                    f"the camera's amplifier {setup.name!r} has no data_section, and the headers "
                    f"describe {', '.join(r.name for r in described) or 'no amplifiers'}"
                )
    return tuple(own or found)


def _changed(readout: Readout, setup: AmplifierSetup) -> Readout:
    sections = {
        "data": setup.data_section,
        "overscan": setup.overscan_section,
        "detector": setup.detector_section,
    }
    changes: dict[str, str] = {
        what: after_fits(text) or text for what, text in sections.items() if text
    }
    if setup.readout:
        changes["corner"] = choose("readout", setup.readout, CORNERS)
    return dataclasses.replace(readout, **changes)  # type: ignore[arg-type]


def _detector_frame(
    frame: Frame, described: tuple[Readout, ...], camera: Instrument
) -> DetectorFrame:
    """The frame of amplifiers that are described in full."""
    general = normalise(frame.header, camera.keywords, CardComments(frame.cards))
    columns, rows = (int(factor) for factor in (general.binning or "1x1").split("x"))
    origin = (general.origin_y, general.origin_x) if general.origin_known else None
    sources = [part.source for part in frame.parts or (frame,)]
    layout = lay_out(described, [s.shape for s in sources], (rows, columns), origin)
    whole = layout.section
    pieces = [piece for p in layout.placed for piece in _pieces(p, sources, (whole.y0, whole.x0))]
    cards, header, lost = _described(frame, layout)
    return DetectorFrame(
        frame.source,
        cards,
        header | {"NAXIS1": whole.shape[1], "NAXIS2": whole.shape[0]},
        frame.fingerprint,
        (*frame.problems, *layout.problems, *lost),
        frame.of,
        image=AssembledImage(whole.shape, tuple(pieces)),
        amplifiers=tuple(p.amplifier for p in layout.placed),
        values={name: _values(described, frame, camera, general, name) for name in VALUES},
        origin=(whole.y0, whole.x0),
        origin_known=layout.known,
    )


def _pieces(placed: Placed, sources: Sequence[ImageSource], origin: tuple[int, int]) -> list[Piece]:
    """An amplifier's light and overscan; overscan columns stay in the order of the HDU."""
    source, amp = sources[placed.readout.part], placed.amplifier
    top, left = amp.section.y0 - origin[0], amp.section.x0 - origin[1]
    pieces = [Piece(source, *placed.data, placed.flipped, top, left)]
    if amp.overscan and placed.overscan:
        beside = amp.overscan.x0 - origin[1]
        turn = placed.flipped[0], False
        pieces.append(Piece(source, placed.data[0], placed.overscan, turn, top, beside))
    return pieces


def _values(
    described: Sequence[Readout],
    frame: Frame,
    camera: Instrument,
    general: FrameValues,
    name: str,
) -> tuple[float, ...]:
    """A number of each amplifier: the camera's for it, else for all, else the headers' likewise."""
    in_header = {"gain": general.gain, "rdnoise": general.rdnoise}
    common = in_header.get(name, positive(frame.header, SATURATION))
    found = []
    for readout in described:
        value = next(
            (
                getattr(setup, name)
                for setup in camera.amplifiers
                if fnmatchcase(readout.name, setup.name) and getattr(setup, name) is not None
            ),
            getattr(camera, name),
        )
        if value is None:
            value = getattr(readout, name)
            value = value if np.isfinite(value) else common
        found.append(float(value))
    return tuple(found)


# --- headers --------------------------------------------------------------------------------------


def _described(frame: Frame, layout: Layout) -> tuple[str, dict[str, Value], tuple[str, ...]]:
    """Cards and values of the assembled image, and what was left out of them."""
    cards = _without(frame.cards, _OF_RAW)
    header = {key: v for key, v in frame.header.items() if not _OF_RAW.fullmatch(key)}
    if not any(key.startswith(("CRVAL", "CRPIX", "CTYPE")) for key in header):
        return cards, header, ()
    shift = None if frame.parts else _common_shift(layout)
    if shift is None:
        header = {key: v for key, v in header.items() if not _WORLD.fullmatch(key)}
        return _without(cards, _WORLD), header, (COORDINATES_LEFT_OUT,)
    if any(shift):
        cards = moved_reference(cards, shift)
        moved = parse(cards.encode("ascii")).values
        header |= {key: v for key, v in moved.items() if key.startswith("CRPIX")}
    return cards, header, ()


def _without(cards: str, left_out: re.Pattern[str]) -> str:
    images = (cards[at : at + CARD] for at in range(0, len(cards), CARD))
    return "".join(image for image in images if not left_out.fullmatch(image[:8].rstrip()))


def _common_shift(layout: Layout) -> tuple[int, int] | None:
    """How far all amplifiers were moved from where they lie in the HDU; None where that differs."""
    whole = layout.section
    shifts = {
        (p.amplifier.section.y0 - whole.y0 - p.data[0][0],
         p.amplifier.section.x0 - whole.x0 - p.data[1][0])
        for p in layout.placed
    }  # fmt: skip
    if len(shifts) > 1 or any(any(p.flipped) for p in layout.placed):
        return None
    return shifts.pop()
