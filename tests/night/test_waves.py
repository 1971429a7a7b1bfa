"""Science frames in groups: the same as each alone, and few tasks, however long the night is."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_night
from astropy.io import fits

import daskcal
from daskcal import reduce_night
from daskcal.frames import held
from daskcal.night.ledger import Ledger
from daskcal.night.report import looks
from daskcal.night.run import waves
from daskcal.night.run.progress import Watch

FRAMES = 200  # of science
WORKERS = 2


def one_by_one(raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Ledger:
    """The night, each science frame by itself."""
    with monkeypatch.context() as patch:
        patch.setattr(waves, "threads_compute", lambda: False)
        return reduce_night(raw, out, **more)


def require_same(ours: tuple[Path, Ledger], theirs: tuple[Path, Ledger]) -> None:
    """Two runs that left the same, but for what the clock says."""
    assert small_night.bits(ours[0]) == small_night.bits(theirs[0])
    assert small_night.timeless(ours[1]) == small_night.timeless(theirs[1])
    assert pictures(ours[0]) == pictures(theirs[0])


def pictures(out: Path) -> list[str]:
    """Those of the report, and what it says of each product's pixels."""
    return re.findall(r"<img [^>]*>", (out / "report/index.html").read_text("utf-8"))


def note_looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Products that are read for the report from now on."""
    found: list[str] = []
    real = looks.look_at

    def noted(path: Any, longest: int) -> Any:
        found.append(Path(path).name)
        return real(path, longest)

    monkeypatch.setattr(looks, "look_at", noted)
    return found


def count_groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the groups that are made from now on."""
    sizes: list[int] = []
    real = waves.make_group

    def counted(group: Any, at_once: int) -> Any:
        sizes.append(len(group.origins))
        return real(group, at_once)

    monkeypatch.setattr(waves, "make_group", counted)
    return sizes


VARIED: tuple[dict[str, Any], ...] = (
    {"gain": 1.7, "rdnoise": 7.0},
    {"gain": None},
    {"saturate": 60000},
    {"saturate": "none"},
    {"saturate": 0},
    {"trimsec": "[3:30,2:22]"},
    {"airmass": 1},
    {"airmass": 1.25, "exposed": 60.5},
    {"bunit": None},
    {"detector": "chip 2"},
)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that differ in what calibration looks at, two of each sort, in turn."""
    raw = small_night.make(tmp_path_factory.mktemp("varied") / "raw")
    for k in range(2):
        for i, cards in enumerate(VARIED):
            at = raw / f"x{k}{i}.fits"
            small_night.write(at, "object", 60.0, 300.0 + i, minute=120 + i, filter="V", **cards)
    return raw


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[output]\ngain_correct = true\nproducts = ['image']",
        "[output]\ncompress = 'rice'",
        "[cosmic_rays]\nmethod = 'median'",
        "saturation = 60000\n[saturation]\nbleed = 2",
        "[mask]\nfrom_flats = true\nfrom_darks = true",
    ],
)
def test_groups_leave_what_single_frames_would(
    varied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    """Bits, headers, messages, figures and the order of the ledger."""
    file = tmp_path / "c.toml"
    file.write_text(f'[instrument]\nunit = "adu"\n{config}')
    alone = one_by_one(varied, tmp_path / "alone", monkeypatch, config=file)
    sizes, seen = count_groups(monkeypatch), note_looks(monkeypatch)
    ledger = reduce_night(varied, tmp_path / "groups", file)
    assert not [name for name in seen if not (tmp_path / "groups/masters" / name).exists()]
    require_same((tmp_path / "groups", ledger), (tmp_path / "alone", alone))
    assert max(sizes) > 1
    assert not held._recent
    assert not small_night.temporaries(tmp_path / "groups")


class Spoiler(Watch):
    """Damages raw frames when the first of some science frames is begun."""

    def __init__(self, *files: Path) -> None:
        self.files = files

    def begin(self, name: str) -> None:
        if name.startswith("science/"):
            for file in self.files:
                file.write_bytes(file.read_bytes()[:3000])
            self.files = ()


@pytest.mark.parametrize("workers", [0, WORKERS])
def test_bad_frames_in_the_midst_of_a_group_cost_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """One that is cut short after the scan, one that a gate rejects, one whose data changed."""
    raw = small_night.make(tmp_path / "raw", science=8)
    with fits.open(raw / "m67_V_3.fits", mode="update") as hdus:
        hdus[0].data[:] = 65535
    with fits.open(raw / "m67_B_2.fits", mode="update") as hdus:
        hdus[0].header["DATASUM"] = "12345"
    again = Path(shutil.copytree(raw, tmp_path / "again"))
    spoilt = "m67_V_5.fits"
    alone = one_by_one(raw, tmp_path / "alone", monkeypatch, watch=Spoiler(raw / spoilt))
    out = tmp_path / "groups"
    if workers:
        with daskcal.cluster(workers=workers):
            ledger = reduce_night(again, out, watch=Spoiler(again / spoilt))
    else:
        ledger = reduce_night(again, out, watch=Spoiler(again / spoilt))
    lost = [frame.path for frame in ledger.frames if frame.status != "used"]
    assert lost == ["m67_B_2.fits", "m67_V_3.fits", spoilt]
    assert small_night.bits(out) == small_night.bits(tmp_path / "alone")
    assert [p.name for p in ledger.products] == [p.name for p in alone.products]
    assert [g.frame for g in ledger.gates] == [g.frame for g in alone.gates]
    assert not small_night.temporaries(out)


def count_tasks(dask_scheduler: Any) -> None:
    """Keep the most tasks that the scheduler held while it had any group of frames."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Count(SchedulerPlugin):
        name = "count"
        most = groups = 0

        def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
            if "made_on_worker" in str(key):
                self.groups += finish == "memory"
                self.most = max(self.most, len(dask_scheduler.tasks))

    dask_scheduler.add_plugin(Count())


def counted(dask_scheduler: Any) -> tuple[int, int]:
    """The most tasks, and how many groups there were."""
    plugin = dask_scheduler.plugins["count"]
    return plugin.most, plugin.groups


def note_reads() -> None:
    """Note on a worker which pixels of masters the tasks of groups read."""
    import builtins

    from distributed import get_worker

    from daskcal.frames import master

    reads: list[Any] = []
    builtins.daskcal_reads = reads  # type: ignore[attr-defined]
    real = master.read_pixels

    def noted(source: Any, rows: Any, columns: Any) -> Any:
        if "made_on_worker" in str(get_worker().get_current_task()):
            reads.append((source.path, source.hdu, rows, columns))
        return real(source, rows, columns)

    master.read_pixels = noted


def reads() -> list[Any]:
    """What was noted."""
    import builtins

    return list(builtins.daskcal_reads)  # type: ignore[attr-defined]


def test_a_long_night_never_floods_a_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few tasks at any time; each worker reads each master once; the bits are those of threads."""
    monkeypatch.setattr(waves, "TOGETHER", 8)
    raw = small_night.make(tmp_path / "raw", science=0)
    for i in range(FRAMES):
        cards = {"minute": 60 + i, "filter": "VB"[i % 2]}
        small_night.write(raw / f"s{i:03}.fits", "object", 60.0, 300.0, **cards)
    expected = reduce_night(raw, tmp_path / "threads")
    with daskcal.cluster(workers=WORKERS) as client:
        client.run_on_scheduler(count_tasks)
        client.run(note_reads)
        seen = note_looks(monkeypatch)
        ledger = reduce_night(raw, tmp_path / "workers")
        most, groups = client.run_on_scheduler(counted)
        each = client.run(reads)
        threads = sum(client.nthreads().values())
    require_same((tmp_path / "workers", ledger), (tmp_path / "threads", expected))
    assert groups >= FRAMES / waves.TOGETHER
    assert most <= 2 * waves.IN_FLIGHT * threads < groups  # those in flight, and just forgotten
    for noted in each.values():
        for (path, hdu, *_), times in Counter(noted).items():
            shared = fits.getheader(path, hdu).get("EXTNAME") == "UNCSHARE"  # taken off UNCERT too
            assert times <= 1 + shared
    assert {Path(path).name for noted in each.values() for path, *_ in noted} == {
        "bias.fits", "dark_60s.fits", "flat_B.fits", "flat_V.fits",
    }  # fmt: skip
    assert np.isfinite([p.seconds for p in ledger.products]).all()
    assert sorted(seen) == ["bias.fits", "dark_60s.fits", "flat_B.fits", "flat_V.fits"]
