"""What a run shows: lines with rate and time left, JSON for machines, one screen at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import small_night
from click.testing import CliRunner

from daskcal.cli import main
from daskcal.night.ledger import FrameEntry, Gate, Ledger, ProductEntry
from daskcal.night.output.place import place_of
from daskcal.night.run.progress import Bar, JsonLines, Lines, Pace, watch
from daskcal.night.run.summary import summary


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_night.make(tmp_path_factory.mktemp("progress") / "raw", dark=0, flat=0, science=1)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines(raw: Path, tmp_path: Path) -> None:
    (raw / "odd.fits").write_bytes(b"SIMPLE  =")
    args = ["reduce", str(raw), "-o", str(tmp_path / "out"), "--log-format", "json"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 3
    assert "1 failed; 3 of 3 products made" in done.stdout
    said = events(done.stderr)
    assert all(event["time"].endswith("+00:00") for event in said)
    (start,) = (event for event in said if event["event"] == "start")
    assert (start["products"], start["bytes"]) == (3, 6 * 24 * 32 * 2)
    names = ["masters/bias.fits", "science/m67_B_0.fits", "science/m67_V_0.fits"]
    for what in ("begin", "end"):
        assert [e["product"] for e in said if e["event"] == what] == names
    last = [event for event in said if event["event"] == "end"][-1]
    assert (last["status"], last["reason"], last["done"], last["products"]) == ("made", "", 3, 3)
    assert last["seconds_left"] == 0
    assert last["bytes_per_second"] > 0
    assert {e["message"] for e in said if e["event"] == "note"} >= {
        "there are no dark frames: no dark is subtracted"
    }
    assert said[-1]["event"] == "summary"
    assert said[-1]["frames"] == {"found": 7, "used": 6, "skipped": 0, "failed": 1}
    assert said[-1]["products"] == {"made": 3, "reused": 0, "failed": 0, "missing": 0}
    assert said[-1]["exit_status"] == 3


def test_an_error_as_json(tmp_path: Path) -> None:
    args = ["reduce", str(tmp_path / "none"), "-o", str(tmp_path), "--log-format", "json"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 2
    (said,) = events(done.stderr)
    assert (said["event"], said["exit_status"]) == ("error", 2)
    assert "is not a folder" in said["message"]


def test_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("daskcal.night.run.progress.time.monotonic", lambda: now[0])
    pace = Pace({"a": 100, "b": 300})
    assert (pace.rate, pace.left) == (0, None)
    now[0] += 2
    assert pace.advance("a")
    assert not pace.advance("a")
    assert not pace.advance("was there before")
    assert (pace.done, pace.total, pace.rate, pace.left) == (1, 2, 50, 6)


def test_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("daskcal.night.run.progress.time.monotonic", lambda: now[0])
    lines = Lines()
    lines.start({"a": 1 << 20, "b": 10 << 20})
    now[0] += 60
    lines.end("a", "made")
    lines.end("c", "missing no dark")
    lines.note("\x1b[31m")
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] 1 min 0 s, 17.07 kiB/s, 10 min 0 s left  a: made",
        "c: missing no dark",
        "note: \\x1b[31m",
    ]


def test_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as bar:
        bar.start({"a": 10, "b": 10})
        bar.begin("a")
        bar.end("a", "made")
        bar.end("b", "failed [red]so[/red]")
        bar.note("a note")
    said = capsys.readouterr().err
    assert "b: failed [red]so[/red]" in said
    assert "note: a note" in said


def test_which_watcher() -> None:
    assert isinstance(watch("json"), JsonLines)
    assert isinstance(watch(), Lines)


def test_one_screen() -> None:
    frames = [FrameEntry(f"{i}.fits", 0, "skipped", "clouds") for i in range(50)]
    frames += [FrameEntry(f"bad_{i}.fits", 0, "failed", f"reason {i}") for i in range(30)]
    products = (
        ProductEntry("masters/bias.fits", "bias", "made", reused=True),
        ProductEntry("masters/dark.fits", "dark", "made"),
        ProductEntry("masters/flat.fits", "flat", "missing", reason="no frames"),
    )
    gates = (
        Gate("bias_level", "masters/bias.fits", 1.0, "warn", message="low"),
        Gate("bias_level", "masters/bias.fits", 1.0, "pass"),
    )
    ledger = Ledger("1", frames=tuple(frames), products=products, gates=gates)
    lines = summary(ledger, place_of("out")).splitlines()
    named = ", ".join(f"{i}.fits" for i in range(12))
    assert lines[0] == f"skipped: {named} and 38 more: clouds"
    assert lines[1] == "failed: bad_0.fits: reason 0"
    assert lines[-4:] == [
        "and 12 more: out/night.json has them all",
        "gates: 1 warn",
        "80 frames found: 0 used, 50 skipped, 30 failed; 2 of 3 products made, 1 of them before",
        "report: out/report/index.html",
    ]
    assert len(lines) == 24
