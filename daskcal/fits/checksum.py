"""Checksums of FITS data and headers (FITS Standard 4.0, appendix J), and of whole files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from daskcal.fits.cards import CARD, make_card
from daskcal.fits.open_file import open_file
from daskcal.fits.urls import is_url

BLOCK = 2880


def padded(n: int) -> int:
    """Bytes of a header or data unit of `n` bytes, filled to whole blocks."""
    return -(-n // BLOCK) * BLOCK


def word_sum(stored: np.ndarray, offset: int = 0) -> int:
    """Sum of the 32-bit words of `stored`, which starts `offset` bytes into the data unit.

    Parameters
    ----------
    stored : ndarray
        Contiguous and writeable, its bytes as they are in the file.
    offset : int
        Ones' complement sums do not mind where words begin, as long as the sum is then turned by
        as many bytes (RFC 1071, 2(B)): parts of a word may so lie in two bands.
    """
    from daskcal.fits.words import sum_words  # numba is slow to import

    data = stored.reshape(-1).view(np.uint8)
    rest = bytes(data[data.size // 4 * 4 :]).ljust(4, b"\0")
    total = folded(sum_words(data) + int.from_bytes(rest, "big"))
    turn = 8 * (offset % 4)
    return (total >> turn | total << (32 - turn)) & 0xFFFFFFFF


def folded(total: int) -> int:
    """A sum of 32-bit words, added in ones' complement."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def header_bytes(head: str, datasum: int) -> bytes:
    """The header of card images `head` with DATASUM and CHECKSUM, padded; no time in comments."""

    def text(checksum: str) -> bytes:
        cards = (
            head
            + make_card("CHECKSUM", checksum, "HDU checksum")
            + make_card("DATASUM", str(datasum), "data unit checksum")
            + "END".ljust(CARD)
        )
        return cards.ljust(padded(len(cards))).encode("ascii")

    words = np.frombuffer(text("0" * 16), ">u4")
    total = folded(int(words.sum(dtype=np.uint64)) + datasum)
    return text(_encoded(0xFFFFFFFF - total))


def _encoded(value: int) -> str:
    """A 32-bit number as 16 letters and digits whose words sum to it (appendix J.2)."""
    columns = []
    for shift in (24, 16, 8, 0):
        quotient, remainder = divmod((value >> shift) & 0xFF, 4)
        letters = [48 + quotient + remainder, 48 + quotient, 48 + quotient, 48 + quotient]
        while any(58 <= c <= 64 or 91 <= c <= 96 for c in letters):  # no punctuation
            for a in (0, 2):
                if any(58 <= c <= 64 or 91 <= c <= 96 for c in letters[a : a + 2]):
                    letters[a] += 1
                    letters[a + 1] -= 1
        columns.append(letters)
    text = "".join(chr(column[row]) for row in range(4) for column in columns)
    return text[-1] + text[:-1]  # values start one byte past a word


def file_checksum(path: str | Path) -> str:
    """SHA-256 of a file, or of what is behind a URL, as ``sha256sum`` prints it."""
    with open_file(str(path)).stream() if is_url(path) else open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
