"""The night that every way to deploy daskcal reduces, and its products by threads."""

from __future__ import annotations

from pathlib import Path

import pytest

import daskcal


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A folder with a small simulated night reduced into ``threads``; its frames; its config."""
    folder = tmp_path_factory.mktemp("night")
    made = daskcal.simulate_night(folder / "n", size=(96, 128))
    daskcal.reduce_night(made.folder, folder / "threads", made.config)
    return folder, made.folder, made.config
