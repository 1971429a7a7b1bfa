"""What the detectors of a mosaic are called: apart in every file, and the same in all of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from daskcal.fits import DEFAULT_KEYWORDS, Frame, Keywords
from daskcal.fits.keywords import as_text

_MAX_PART = 40
_DEVICE = re.compile(r"CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]", re.IGNORECASE)
_USUAL = DEFAULT_KEYWORDS.aliases["detector"]
_NUMBERS = ("CCDNUM", "CCDCHIP", "IMAGEID", "EXTVER")


def name_detectors(
    frames: Sequence[Frame],
    known: Sequence[str],
    cameras: Sequence[str],
    keywords: Keywords = DEFAULT_KEYWORDS,
) -> list[str]:
    """Names of the detectors of frames, those of mosaics told apart.

    Where files hold several detectors, the first keyword that tells those of every file of a camera
    apart gives their names: those of `keywords` that are not the usual ones, EXTNAME, the usual
    ones (DETECTOR, CCDNAME, ...), CCDNUM and other numbers; else it is the number of the HDU.

    Parameters
    ----------
    frames : sequence of Frame
        All that are to be named alike: a night's.
    known, cameras : sequence of str
        Detector and camera of each frame by its header.
    keywords : Keywords
        The alias table.

    Returns
    -------
    list of str
        `known` for the frames of files with one detector.
    """
    names = list(known)
    of_camera: dict[str, list[int]] = {}
    for i, camera in enumerate(cameras):
        of_camera.setdefault(camera, []).append(i)
    for positions in of_camera.values():
        several = [i for i in positions if frames[i].of > 1]
        if not several:
            continue
        keyword = _telling(frames, several, keywords)
        for i in several:
            names[i] = _word(frames[i], keyword) or f"hdu{frames[i].source.hdu}"
        taken = {names[i] for i in several}
        for i in positions:  # files of which a whole detector, or more, was cut away
            if frames[i].of == 1 and frames[i].source.hdu:
                word = _word(frames[i], keyword)
                names[i] = word if word in taken else names[i]
    return names


def distinct_names(words: Iterable[str]) -> dict[str, str]:
    """A name for each word, safe as a file's (`safe_name`) and distinct whatever its case."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for word in dict.fromkeys(words):
        plain = safe_name(word)
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.casefold())
        names[word] = name
    return names


def safe_name(text: str) -> str:
    """Text from a header as a part of a file name: letters, digits, ``_-+`` and inner dots.

    Never empty, never a path, at most 40 characters; different texts may give the same name.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"['\"`´^]", "", plain)
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", plain)
    plain = re.sub(r"\.{2,}", "_", plain)[:_MAX_PART].strip("_.-")
    return not_a_device(plain or "unnamed")[:_MAX_PART]


def not_a_device(stem: str) -> str:
    """A file's name that Windows does not take for a device, as it takes CON and nul.fits."""
    first, dot, rest = stem.partition(".")
    return f"{first}_{dot}{rest}" if _DEVICE.fullmatch(first.rstrip()) else stem


def _telling(frames: Sequence[Frame], several: Sequence[int], keywords: Keywords) -> str:
    """The keyword that tells the detectors of every file apart; "" where none does."""
    files: dict[str, list[int]] = {}
    for i in several:
        files.setdefault(frames[i].source.path, []).append(i)
    given = [key for key in keywords.aliases["detector"] if key not in _USUAL]
    for keyword in (*given, "EXTNAME", *_USUAL, *_NUMBERS):
        if all(_tells(frames, positions, keyword) for positions in files.values()):
            return keyword
    return ""


def _tells(frames: Sequence[Frame], positions: Sequence[int], keyword: str) -> bool:
    words = {_word(frames[i], keyword) for i in positions}
    return "" not in words and len(words) == len(positions)


def _word(frame: Frame, keyword: str) -> str:
    word = as_text(frame.header.get(keyword, ""))
    return f"{keyword.lower()}{word}" if word.isdecimal() else word
