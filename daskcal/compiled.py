"""Compiling a loop: once an installation where a folder may be written to, else once a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb


def compile_cached(function: Callable[..., Any]) -> Any:
    """`function` compiled, without the GIL, and kept on disk where numba finds a folder for it.

    It calls nothing of other files: numba's cache looks at the date of its own file only.
    """
    try:
        return nb.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # read-only installation and no home: each process compiles its own
        return nb.njit(nogil=True, error_model="numpy")(function)
