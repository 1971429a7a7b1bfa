"""Fixtures for every test: where real frames are, a scratch and a cache for each run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# a busy machine is slow: no test depends on a time
settings.register_profile("daskcal", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("daskcal")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def realdata() -> Callable[[str], Path]:
    """`realdata(name)`: the folder of a set of real frames; skips the test where it is absent."""
    root = Path(os.environ.get("DASKCAL_REALDATA", REPOSITORY.parent / "shared" / "realdata"))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            pytest.skip(f"real frames are not here: {folder} (set DASKCAL_REALDATA)")
        return folder

    return find


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the scan index and the spool of tests away from the user's."""
    base = tmp_path_factory.mktemp("daskcal")
    os.environ["DASKCAL_CACHE"] = str(base / "cache")
    os.environ["DASKCAL_SCRATCH"] = str(base / "scratch")


@pytest.fixture
def figures() -> Iterator[None]:
    """matplotlib without a window, and without a figure afterwards."""
    pytest.importorskip("matplotlib").use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
