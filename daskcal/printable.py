"""Text from files and headers as a terminal or a log may show it."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 4  # of what is alike, so many are named


def printable(text: str) -> str:
    """`text` with what a terminal would obey, or cannot show, as escapes; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def one_line(text: str) -> str:
    """The same with line breaks as escapes too: names of files may hold them."""
    return printable(text).replace("\n", "\\n")


def few(names: Sequence[str]) -> str:
    """Names, and of many the first and how many more there are."""
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"
