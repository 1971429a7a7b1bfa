"""Threads that wait for stores: a store answers many requests in the time of one."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_THREADS = {"file": 16, "range": 32}  # of a process, whatever its workers


def each_file(function: Callable[[T], R], files: Iterable[T]) -> Iterator[R]:
    """`function` of several files at once; results in order."""
    return _pool("file", os.getpid()).map(function, files)


def each_range(function: Callable[[T], R], ranges: Iterable[T]) -> Iterator[R]:
    """`function` of several ranges of one file at once; `function` may not do so itself."""
    return _pool("range", os.getpid()).map(function, ranges)


@functools.cache
def _pool(kind: str, process: int) -> ThreadPoolExecutor:
    """The pool of a kind; a forked process has no use for that of its parent.

    There are two, since what reads files waits for what reads their ranges.
    """
    return ThreadPoolExecutor(_THREADS[kind], thread_name_prefix=f"daskcal-{kind}")
