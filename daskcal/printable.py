"""Text from files and headers as a terminal or a log may show it."""

from __future__ import annotations


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
