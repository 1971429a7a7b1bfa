"""Whether all parts of a cluster have what decides bits: looked at once, and of each that joins."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from daskcal.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

# Of another of these, bits or pickles differ.
ALIKE = ("python", "daskcal", "dask", "distributed", "numpy", "numba")
_NAME = "daskcal-alike-"  # of a guard; that of the client whose it is follows


class _AsText:
    """A function that travels as its text.

    Where it arrives daskcal may be missing, and Python another, which would crash over bytecode.
    The functions import what they need, and know nothing but each other.
    """

    def __init__(self, *functions: Callable[..., object]) -> None:
        self.functions = functions

    def __call__(self, *args: object, **more: object) -> object:
        return self.functions[-1](*args, **more)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        parts = ["from __future__ import annotations\n", *map(inspect.getsource, self.functions)]
        text, name = "\n".join(parts), self.functions[-1].__name__
        return eval, (f"(lambda names: exec({text!r}, names) or names[{name!r}])({{}})",)


def _versions(packages: list[str]) -> dict[str, str]:
    """The Python that runs, and which versions it has; "" of what is not there."""
    import sys
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(map(str, sys.version_info[:2])), "executable": sys.executable}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def _difference(wanted: dict[str, str], found: dict[str, str]) -> str:
    """What is another one, and what to do; "" where nothing is."""
    for package, here in wanted.items():
        there = found[package]
        if package != "executable" and there != here:
            said = f"has {package} {there}" if there else f"lacks {package}"
            return (
                f"{said}, and here it is {here}: install the same there "
                f"(python: {found['executable']})"
            )
    return ""


def _refuse(wanted: dict[str, str], topic: str, worker) -> None:  # type: ignore[no-untyped-def]
    """End a worker that differs, before it begins anything; nobody is blamed for its tasks."""
    from distributed.core import Status

    packages = [name for name in wanted if name not in ("python", "executable")]
    difference = _difference(wanted, _versions(packages))
    if not difference:
        return
    worker.status = Status.closing_gracefully  # what it was sent already does not begin
    worker.log_event(topic, f"{worker.contact_address} {difference}")

    async def leave() -> None:
        await worker.scheduler.unregister(
            address=worker.contact_address, expected=True, close=False, stimulus_id=topic
        )
        await worker.close(executor_wait=False, reason=f"daskcal refuses it: it {difference}")

    worker.loop.call_later(1, worker.loop.add_callback, leave)  # once it has come up


def _forget_guards(prefix: str, dask_scheduler) -> None:  # type: ignore[no-untyped-def]
    """Take away guards of clients that ended without doing it."""
    for name in list(dask_scheduler.worker_plugins):
        if name.startswith(prefix) and name.removeprefix(prefix) not in dask_scheduler.clients:
            del dask_scheduler.worker_plugins[name]


def require_alike(client: Client) -> None:
    """Refuse workers, or a scheduler, that would not run this daskcal, or compute other bits.

    Raises
    ------
    ClusterError
        Names the first that differs, and in what.
    """
    packages = list(ALIKE[1:])
    here, probe = _versions(packages), _AsText(_versions)
    answers = client.run(probe, packages, on_error="return")
    found = {place: said for place, said in answers.items() if not isinstance(said, OSError)}
    with contextlib.suppress(ValueError):  # one that runs nothing (distributed.scheduler.pickle)
        found[f"{client.scheduler.address} (the scheduler)"] = client.run_on_scheduler(
            probe, packages
        )
    for place, versions in found.items():  # who is gone meanwhile is looked at as it comes back
        if difference := _difference(here, versions):
            raise ClusterError(f"{place} {difference}")


@contextlib.contextmanager
def guarded(client: Client, say: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile a worker that joins and differs is sent away before it begins anything.

    Parameters
    ----------
    client : distributed.Client
    say : callable
        Is told of each: its address, and in what it differs.
    """
    from distributed import WorkerPlugin

    name = f"{_NAME}{client.id}"
    guard: Any = WorkerPlugin()
    text = _AsText(_versions, _difference, _refuse)
    guard.setup = partial(text, _versions(list(ALIKE[1:])), name)
    with contextlib.suppress(ValueError):
        client.run_on_scheduler(_AsText(_forget_guards), _NAME)
    client.subscribe_topic(name, lambda event: say(event[1]))
    client.register_plugin(guard, name=name)
    try:
        yield
    finally:
        if client.status == "running":
            with contextlib.suppress(OSError, ValueError):
                client.unregister_worker_plugin(name)
