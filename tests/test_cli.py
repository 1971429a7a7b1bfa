"""The command line as a user meets it: exit statuses, messages, and nothing half-written."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_night
from astropy.io import fits
from click.testing import CliRunner, Result

from daskcal.cli import main
from daskcal.night.ledger import Ledger, read_ledger

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good night, made once; tests that change it copy it."""
    return small_night.make(tmp_path_factory.mktemp("night") / "raw")


@pytest.fixture
def raw(night: Path, tmp_path: Path) -> Path:
    """A night of the test's own."""
    return Path(shutil.copytree(night, tmp_path / "raw"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(*args: object, status: int = 0) -> Result:
    """Run a command; an exception that is no message for people fails the test."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def reduced(raw: Path, out: Path, *args: object, status: int = 0) -> tuple[Result, Ledger]:
    result = run("reduce", raw, "-o", out, *args, status=status)
    assert not small_night.temporaries(out)
    return result, read_ledger(out / "night.json")


def refused(raw: Path, out: Path, *args: object, status: int, says: str) -> Result:
    """A run that cannot begin: one message on stderr, and no output."""
    result = run("reduce", raw, "-o", out, *args, status=status)
    assert says in result.stderr
    assert not result.stdout
    assert "Traceback" not in result.stderr
    assert not out.is_dir() or not small_night.files(out)
    return result


def frame(ledger: Ledger, path: str) -> Any:
    return next(entry for entry in ledger.frames if entry.path == path)


def product(ledger: Ledger, name: str) -> Any:
    return next(entry for entry in ledger.products if entry.name == name)


# --- every command, when all is well -------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    heavy = ("numpy", "astropy", "dask", "xarray", "pydantic", "pandas", "zarr", "numba", "PIL")
    code = (
        "import sys; from click.testing import CliRunner; from daskcal.cli import main\n"
        "for args in (['--help'], ['reduce', '--help'], ['--version']):\n"
        "    assert CliRunner().invoke(main, args).exit_code == 0\n"
        f"print(*(m for m in {heavy!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_help_lists_the_commands() -> None:
    said = run("--help").stdout
    commands = "ls plan reduce combine config simulate show report mark-bad"
    for command in commands.split():
        assert f"\n  {command} " in said


def test_ls(raw: Path) -> None:
    (raw / "notes.txt").write_text("cloudy")
    said = run("ls", raw).stdout.splitlines()
    assert said[0].split()[:4] == ["file", "imagetyp", "exptime", "filter"]
    row = next(line.split() for line in said if line.startswith("flat_V_0.fits"))
    assert row[:4] == ["flat_V_0.fits", "flat", "2", "V"]
    assert said[-2:] == [f"17 frames in {raw}", "1 other files are not FITS"]


def test_ls_names_what_cannot_be_read(raw: Path) -> None:
    truncate(raw / "bias_0.fits")
    said = run("ls", raw, status=3).stdout
    assert f"unreadable: {raw}/bias_0.fits [HDU 0]: " in said


def test_text_of_headers_and_names_cannot_command_a_terminal(tmp_path: Path) -> None:
    small_night.write(tmp_path / "a\x1b[31m.fits", "bias")
    small_night.write(Path(os.fsdecode(bytes(tmp_path) + b"/b\xff.fits")), "bias")
    said = run("ls", tmp_path).stdout
    assert "\x1b" not in said
    assert "a\\x1b[31m.fits" in said
    assert "b\\udcff.fits" in said


def test_plan(raw: Path, out: Path) -> None:
    said = run("plan", raw, "-o", out).stdout
    for name in ("masters/bias", "masters/dark_60s", "masters/flat_V", "science/m67_B_0"):
        assert f"{name}.fits" in said
    assert "scaled by 0.0333" in said
    assert "peak memory" in said
    assert "tasks" in said
    assert f"fit into {out}" in said
    assert not out.exists()


def test_what_is_excluded_is_no_failure_of_a_plan(raw: Path) -> None:
    assert "left out by --exclude 'bias_0*'" in run("plan", raw, "--exclude", "bias_0*").stdout


def test_reduce_all(raw: Path, out: Path) -> None:
    result, ledger = reduced(raw, out)
    assert "17 frames found: 17 used, 0 skipped, 0 failed; 8 of 8 products made" in result.stdout
    assert "masters/bias.fits: made" in result.stderr
    assert small_night.files(out) == [
        *(f"masters/{name}.fits" for name in ("bias", "dark_60s", "flat_B", "flat_V")),
        "night.json",
        "report/index.html",
        *(f"science/m67_{name}_{i}.fits" for name in "BV" for i in (0, 1)),
    ]
    assert ledger.command.split()[0] == "daskcal"


def test_combine_show_and_report(raw: Path, out: Path, tmp_path: Path) -> None:
    master = tmp_path / "bias.fits"
    three = [raw / f"bias_{i}.fits" for i in range(3)]
    options = ["--method", "median", "--sigma-floor", "0", "--maxiters", 2]
    said = run("combine", *three, "-o", master, *options).stdout
    assert "3 frames combined" in said
    assert fits.getheader(master)["NCOMBINE"] == 3
    run("combine", raw / "bias_0.fits", raw / "bias_1.fits", "-o", master)  # it replaces its own
    assert fits.getheader(master)["NCOMBINE"] == 2
    run("show", master, "-o", tmp_path / "bias.png")
    assert (tmp_path / "bias.png").read_bytes()[:4] == b"\x89PNG"
    reduced(raw, out)
    page = (out / "report" / "index.html").read_bytes()
    (out / "report" / "index.html").unlink()
    assert run("report", out).stdout.strip() == str(out / "report" / "index.html")
    assert (out / "report" / "index.html").read_bytes() == page


def test_config(tmp_path: Path) -> None:
    text = run("config", "--template").stdout
    (tmp_path / "all.toml").write_text(text)
    assert "is a valid config" in run("config", "--check", tmp_path / "all.toml").stdout
    assert "lfc" in run("config", "--list").stdout
    assert "give one of" in run("config", status=2).stderr


def test_simulate_then_reduce(tmp_path: Path, out: Path) -> None:
    said = run("simulate", tmp_path / "sim", "--size", "64,48").stdout
    assert f"daskcal reduce {tmp_path}/sim/raw -c {tmp_path}/sim/generic.toml" in said
    assert "--overwrite" in run("simulate", tmp_path / "sim", "--size", "64,48", status=2).stderr
    run("simulate", tmp_path / "sim", "--size", "64,48", "--overwrite")
    later = ("--days", "2", "--fault", "duplicate", "n0001", "--fault", "cloud", "n030*")
    said = run("simulate", tmp_path / "later", "--size", "64,48", *later).stdout
    assert f"{tmp_path / 'later' / 'raw'}: 36 raw frames" in said
    reduced(tmp_path / "sim" / "raw", out, "-c", tmp_path / "sim" / "generic.toml")


# --- wrong usage and wrong config: status 2 ------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["redcue", "{raw}", "-o", "{out}"], "did you mean 'reduce'?"),
        (["reduce", "{raw}", "-o", "{out}", "--exclud", "x"], "--exclude"),
        (["reduce", "{raw}", "-o", "{out}", "--format", "zar"], "'fits', 'zarr'"),
        (["reduce", "{raw}", "-o", "{out}", "--products", "image,maks"], "did you mean 'mask'?"),
        (["reduce", "{raw}", "-o", "{out}", "--memory", "lots"], "such as '4GB'"),
        (["reduce", "{raw}", "-o", "{out}", "--memory", "4"], "1 MB or more"),
        (["reduce", "{raw}", "-o", "{out}", "--select", "filtr == 'V'"], "did you mean 'filter'"),
        (["reduce", "{raw}", "-o", "{out}", "--select", "filter == 'U'"], "none of the 17 frames"),
        (["reduce", "{raw}", "-o", "{out}", "--select", "filter ="], "--select 'filter ='"),
        (["reduce", "{raw}", "-o", "{out}", "--exclude", "*"], "none of the 17 frames is left"),
        (["reduce", "{raw}", "-o", "{out}", "-c", "lcf"], "shipped cameras"),
        (["reduce", "{raw}/nowhere", "-o", "{out}"], "nowhere: is not a folder"),
        (["reduce", "{raw}/bias_0.fits", "-o", "{out}"], "is not a folder"),
        (["reduce", "{raw}", "-o", "{raw}"], "holds the raw frames"),
        (["reduce", "{raw}", "-o", "{raw}/../raw"], "holds the raw frames"),
        (["reduce", "{raw}"], "'-o'"),
        (["ls", "{raw}/bias_00.fits"], "did you mean '{raw}/bias_0.fits'?"),
        (["plan", "{raw}", "--select", "filtr == 'V'"], "did you mean 'filter'"),
        (["combine", "{raw}/nowhere", "-o", "{out}"], "there is no such file"),
        (["combine", "{raw}/bias_0.fits", "-o", "{out}", "--low", "-1"], "low"),
        (["combine", "{raw}/bias_0.fits", "-o", "{out}", "--sigma-floor", "aut"], "or 'auto'"),
        (["combine", "{raw}/bias_0.fits", "-o", "{out}", "--memory", "1"], "1 MB or more"),
        (["simulate", "{out}", "--size", "12"], "--size '12' should be rows and columns"),
        (["simulate", "{out}", "--size", "-5,60"], "at least 16"),
        (["simulate", "{out}", "--camera", "lcf"], "did you mean 'lfc'?"),
        (["simulate", "{out}", "--fault", "leak", "n0001"], "did you mean 'light-leak'?"),
        (["show", "{raw}/nowhere.fits", "-o", "{out}.png"], "there is no such file"),
        (["show", "{raw}/bias_0.fits", "-o", "x.png", "--stretch", "asin"], "mean 'asinh'"),
        (["report", "{out}"], "give the folder that daskcal reduce wrote"),
        (["config", "--check", "{out}"], "no such config file"),
        (["config", "--chek", "{out}"], "--check"),
    ],
)  # fmt: skip
def test_wrong_usage(night: Path, out: Path, args: list[str], says: str) -> None:
    before = small_night.files(night)
    given = [arg.format(raw=night, out=out) for arg in args]
    result = run(*given, status=2)
    assert says.format(raw=night) in result.stderr
    assert not result.stdout
    assert not out.exists()
    assert small_night.files(night) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[flat]\nmin_valu = 0.1\n", "flat.min_valu: unknown key; did you mean 'min_value'?"),
        ("[dark]\nscale = 'yes'\n", "dark.scale"),
        ("[dark\n", "not valid TOML"),
        ("[[classify]]\nimagetyp = 'bias'\n", "needs a condition"),
        ('[select]\nquery = "EXPTIM > 3"\n', "EXPTIM"),
    ],
)
def test_wrong_config(night: Path, out: Path, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "night.toml").write_text(text)
    refused(night, out, "-c", tmp_path / "night.toml", status=2, says=says)


def test_frames_without_a_unit(tmp_path: Path, out: Path) -> None:
    raw = small_night.make(tmp_path / "raw", bunit=None, flat=0, science=0)
    said = refused(raw, out, status=2, says='[instrument] unit = "adu"').stderr
    assert "bias_0.fits" in said
    (tmp_path / "night.toml").write_text('[instrument]\nunit = "adu"\n')
    reduced(raw, out, "-c", tmp_path / "night.toml")


# --- nothing to do: status 1 ---------------------------------------------------------------------


def test_a_folder_without_fits(tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("cloudy")
    refused(tmp_path / "empty", out, status=1, says="holds no FITS frame")
    assert "no FITS frame" in run("ls", tmp_path / "empty", status=1).stderr
    assert "no FITS image" in run("combine", tmp_path / "empty", "-o", out, status=1).stderr


def test_a_folder_of_products_only(raw: Path, out: Path, tmp_path: Path) -> None:
    reduced(raw, out)
    refused(out, tmp_path / "again", status=1, says="only 8 products of daskcal (masters/bias.fits")


def test_nothing_readable(tmp_path: Path, out: Path) -> None:
    raw = small_night.make(tmp_path / "raw", dark=0, flat=0, science=0, bias=2)
    for path in raw.iterdir():
        truncate(path)
    said = refused(raw, out, status=1, says="holds no readable FITS frame").stderr
    assert "bias_0.fits" in said


# --- an output that cannot be written ------------------------------------------------------------


def test_a_file_in_the_way_of_the_output(raw: Path, out: Path) -> None:
    out.write_text("mine")
    run("reduce", raw, "-o", out, status=2)
    said = run("reduce", raw, "-o", out / "deeper", status=2).stderr
    assert f"{out} is not a folder; give another folder" in said
    assert out.read_text() == "mine"


@pytest.mark.parametrize("part", ["masters", "science", "report"])
def test_a_file_in_the_way_of_a_folder(raw: Path, out: Path, part: str) -> None:
    out.mkdir()
    (out / part).write_text("mine")
    assert f"{out / part} is not a folder" in run("reduce", raw, "-o", out, status=2).stderr
    assert small_night.files(out) == [part]
    assert os.listdir(out) == [part]


def test_an_output_without_permission(
    raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(out))
    refused(raw, out, status=1, says=f"{out} is not writable")


def test_raw_frames_are_never_replaced(raw: Path, tmp_path: Path) -> None:
    science = tmp_path / "science"
    raw.rename(science)  # products of OUT would be OUT/science/<the raw file's name>
    before = {path: path.read_bytes() for path in science.iterdir()}
    said = run("reduce", science, "-o", tmp_path, status=2).stderr
    assert "is one of the frames to read" in said
    assert {path: path.read_bytes() for path in science.iterdir()} == before
    assert os.listdir(tmp_path) == ["science"]


def test_what_daskcal_did_not_make_is_never_replaced(raw: Path, out: Path) -> None:
    other = small_night.write(out / "masters" / "bias.fits", "bias")
    before = other.read_bytes()
    assert "was not made by daskcal" in run("reduce", raw, "-o", out, status=1).stderr
    assert (
        "was not made by daskcal"
        in run("combine", raw / "bias_1.fits", "-o", other, status=1).stderr
    )
    assert "is one of the frames to read" in run("combine", other, "-o", other, status=2).stderr
    assert other.read_bytes() == before
    assert small_night.files(out) == ["masters/bias.fits"]


# --- one bad frame among good ones: status 3 -----------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def cut_gz(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes())[:-900])
    path.unlink()
    return packed


def flipped_gz(path: Path) -> Path:
    data = bytearray(gzip.compress(path.read_bytes()))
    data[-6] ^= 0xFF  # the checksum
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(bytes(data))
    path.unlink()
    return packed


def cut_bz2(path: Path) -> Path:
    packed = path.with_name(path.name + ".bz2")
    packed.write_bytes(bz2.compress(path.read_bytes())[:-300])
    path.unlink()
    return packed


def cut_fz(path: Path) -> Path:
    packed = path.with_name(path.name + ".fz")
    with fits.open(path) as hdus:
        image = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="RICE_1")
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(packed)
    path.unlink()
    packed.write_bytes(packed.read_bytes()[:6500])
    return packed


def bad_tile(path: Path) -> Path:
    """Tile-compressed, whole by its lengths, and its first tiles nonsense."""
    packed = path.with_name(path.name + ".fz")
    with fits.open(path) as hdus:
        image = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="GZIP_1")
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(packed)
    path.unlink()
    data = bytearray(packed.read_bytes())
    at = data.find(b"\x1f\x8b\x08")
    data[at : at + 40] = bytes(40)
    packed.write_bytes(bytes(data))
    return packed


def cut(path: Path) -> Path:
    truncate(path)
    return path


@pytest.mark.parametrize("spoil", [cut, cut_gz, flipped_gz, cut_bz2, cut_fz, bad_tile])
@pytest.mark.parametrize("name", ["bias_1.fits", "m67_V_1.fits"])
def test_a_damaged_frame_costs_that_frame(
    raw: Path, out: Path, spoil: Callable[[Path], Path], name: str
) -> None:
    bad = spoil(raw / name).name
    result, ledger = reduced(raw, out, status=3)
    entry = frame(ledger, bad)
    assert entry.status == "failed"
    assert f"failed: {entry.place}: {entry.reason}" in result.stdout
    counts = ledger.counts()
    assert (counts.found, counts.used, counts.failed) == (17, 16, 1)
    bias = product(ledger, "masters/bias.fits")
    used = [f"bias_{i}.fits" for i in range(4) if f"bias_{i}.fits" in os.listdir(raw)]
    used = [name for name in used if name != bad]
    assert [one.path for one in bias.inputs] == used
    header = fits.getheader(out / "masters" / "bias.fits")
    assert header["NCOMBINE"] == len(used)
    history = "".join(str(line).removeprefix("daskcal: ") for line in header["HISTORY"])
    assert bad not in history
    assert all(name in history for name in used)
    assert all(p.status != "failed" for p in ledger.products)
    assert bad.split(".")[0] in (out / "report" / "index.html").read_text()


def test_all_frames_of_a_master_damaged_as_they_are_read(raw: Path, out: Path) -> None:
    for i in range(3):
        bad_tile(raw / f"flat_B_{i}.fits")
    _, ledger = reduced(raw, out, status=3)
    assert product(ledger, "masters/flat_B.fits").status == "missing"
    lost = product(ledger, "science/m67_B_0.fits")
    assert lost.status == "missing"
    assert lost.reason == "masters/flat_B.fits, which it needs, was not made"
    assert frame(ledger, "m67_B_0.fits").status == "skipped"
    assert product(ledger, "science/m67_V_0.fits").status == "made"


def test_no_flat_for_a_filter(raw: Path, out: Path) -> None:
    for i in range(3):
        (raw / f"flat_B_{i}.fits").unlink()
    result, ledger = reduced(raw, out, status=3)
    lost = product(ledger, "science/m67_B_0.fits")
    assert lost.status == "missing"
    assert "no flat for filter 'B'" in lost.reason
    assert "there are flats for 'V'" in lost.reason
    assert "nearest: masters/flat_V.fits" in lost.reason
    assert f"missing: science/m67_B_0.fits: {lost.reason}" in result.stdout
    assert frame(ledger, "m67_B_1.fits").status == "skipped"
    assert product(ledger, "science/m67_V_1.fits").status == "made"
    plan = run("plan", raw, status=3).stdout
    assert "science/m67_B_0.fits, science/m67_B_1.fits: no flat for filter 'B'" in plan


def test_a_night_that_makes_nothing(tmp_path: Path, out: Path) -> None:
    """Plan and run end alike."""
    raw = tmp_path / "odd"
    raw.mkdir()
    small_night.write(raw / "focus.fits", "focus")
    assert "0 products" in run("plan", raw, status=1).stdout
    reduced(raw, out, status=1)


def test_a_frame_of_another_shape_stays_apart(raw: Path, out: Path) -> None:
    small_night.write(raw / "bias_odd.fits", "bias", shape=(20, 32))
    small_night.write(raw / "m67_odd.fits", "object", 60.0, shape=(20, 32), filter="V")
    _, ledger = reduced(raw, out, status=3)
    assert {p.name for p in ledger.products if p.kind == "bias"} == {
        "masters/bias_24x32.fits", "masters/bias_20x32.fits",
    }  # fmt: skip
    assert [i.path for i in product(ledger, "masters/bias_20x32.fits").inputs] == ["bias_odd.fits"]
    lost = product(ledger, "science/m67_odd.fits")
    assert lost.status == "missing"
    assert "shape is 24×32, wanted 20×32" in lost.reason


def test_a_master_that_does_not_cover_a_frame(raw: Path, out: Path) -> None:
    for path in sorted(raw.glob("*.fits")):
        window = "[1:32,1:24]" if not path.name.startswith("m67_V") else "[1:32,3:26]"
        with fits.open(path, mode="update") as hdus:
            hdus[0].header["CCDSEC"] = window
    _, ledger = reduced(raw, out, status=3)
    lost = product(ledger, "science/m67_V_0.fits")
    assert lost.status == "missing"
    assert "24×32 at row 0, column 0, wanted 24×32 at row 2, column 0" in lost.reason
    assert product(ledger, "science/m67_B_0.fits").status == "made"


def test_a_bad_pixel_mask_that_does_not_cover(raw: Path, out: Path, tmp_path: Path) -> None:
    fits.writeto(tmp_path / "bad.fits", np.zeros((20, 32), np.uint8))
    (tmp_path / "night.toml").write_text('[mask]\nbad_pixels = "bad.fits"\n')
    _, ledger = reduced(raw, out, "-c", tmp_path / "night.toml", status=1)
    lost = product(ledger, "masters/flat_V.fits")
    assert lost.status == "failed"
    assert "bad-pixel mask (bad.fits)" in lost.reason
    assert "20 rows" in lost.reason
    assert product(ledger, "science/m67_V_0.fits").status == "failed"
    assert product(ledger, "masters/dark_60s.fits").status == "made"


def test_a_dark_that_would_have_to_be_scaled_too_far(raw: Path, out: Path) -> None:
    small_night.write(raw / "long.fits", "object", 600.0, 300.0, filter="V")
    result, ledger = reduced(raw, out, status=3)
    reason = product(ledger, "science/long.fits").reason
    assert "nearest 60 s, masters/dark_60s.fits" in reason
    assert "scaling allowed up to 3×, would need 10×" in reason
    assert reason in result.stdout


def test_combine_leaves_out_what_a_folder_holds_that_cannot_be_read(
    tmp_path: Path, out: Path
) -> None:
    raw = small_night.make(tmp_path / "raw", dark=0, flat=0, science=0)
    truncate(raw / "bias_2.fits")
    result = run("combine", raw, "-o", out, status=3)
    assert "left out" in result.stderr
    assert "bias_2.fits" in result.stderr
    assert "3 frames combined" in result.stdout
    out.unlink()
    said = run("combine", raw / "bias_2.fits", "-o", out, status=1).stderr
    assert "bias_2.fits" in said
    assert not out.exists()


def test_combine_refuses_other_shapes(raw: Path, out: Path) -> None:
    odd = small_night.write(raw / "odd.fits", "bias", shape=(20, 32))
    said = run("combine", raw / "bias_0.fits", raw / "bias_1.fits", odd, "-o", out, status=1)
    assert "odd.fits is 20 rows × 32 columns" in said.stderr
    assert not out.exists()


# --- stopping ------------------------------------------------------------------------------------


SLOW = """
import os, signal, sys, threading, time
from daskcal.fits import assembled
read = assembled.read_pixels
def slow(*args):
    sys.stdout.write("reading\\n"); sys.stdout.flush()
    time.sleep(0.15)
    return read(*args)
assembled.read_pixels = slow
from daskcal.cli import main
main(sys.argv[1:], prog_name="daskcal")
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_in_the_middle(raw: Path, out: Path, number: int, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "reduce", str(raw), "-o", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "stopped; files that are complete stay" in said
    assert "Traceback" not in said
    assert small_night.files(out) == []


def test_ctrl_c_while_a_product_is_written(
    raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import daskcal.night.run.run as night_run

    write = night_run.to_fits
    reduced(raw, out)
    before = (out / "masters" / "dark_60s.fits").read_bytes()
    (out / "masters" / "bias.fits").unlink()  # so that the dark is made again too

    def interrupted(ds: Any, path: Any, **options: Any) -> Any:
        if "dark_60s.fits" in Path(path).name:  # not yet by that name
            lazy = write(ds, path, **{**options, "compute": False})
            assert lazy
            signal.raise_signal(signal.SIGINT)
        return write(ds, path, **options)

    monkeypatch.setattr(night_run, "to_fits", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    result = run("reduce", raw, "-o", out, status=130)
    assert "stopped" in result.stderr
    assert small_night.temporaries(out) == [".night.jsonl"]  # what is done, for the next run
    assert (out / "masters" / "dark_60s.fits").read_bytes() == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_report_of_a_ledger_that_is_damaged(raw: Path, out: Path) -> None:
    reduced(raw, out)
    page = (out / "report" / "index.html").read_bytes()
    record = json.loads((out / "night.json").read_text())
    record["frames"][0]["status"] = "lost"
    (out / "night.json").write_text(json.dumps(record))
    assert "is damaged at frames.0" in run("report", out, status=2).stderr
    assert (out / "report" / "index.html").read_bytes() == page


def test_show_writes_the_picture_that_python_writes(raw: Path, tmp_path: Path) -> None:
    from daskcal import plot

    options = ["--stretch", "asinh", "--percent", 90, "--hdu", 0]
    run("show", raw / "bias_0.fits", "-o", tmp_path / "a.png", *options)
    other = plot.write_png(raw / "bias_0.fits", tmp_path / "b.png", stretch="asinh", percent=90)
    assert (tmp_path / "a.png").read_bytes() == other.read_bytes()


def test_a_picture_never_replaces_a_frame(raw: Path) -> None:
    before = (raw / "bias_1.fits").read_bytes()
    said = run("show", raw / "bias_0.fits", "-o", raw / "bias_1.fits", status=2)
    assert "should end in .png" in said.stderr
    assert (raw / "bias_1.fits").read_bytes() == before


def test_minmax_takes_low_and_high_as_counts(raw: Path, tmp_path: Path) -> None:
    three = [raw / f"bias_{i}.fits" for i in range(3)]
    out = tmp_path / "m.fits"
    run("combine", *three, "-o", out, "--reject", "minmax", "--low", 1, "--high", 0)
    values = np.stack([fits.getdata(path) for path in three]).astype(float)
    expected = np.sort(values, axis=0)[1:].mean(axis=0)
    np.testing.assert_allclose(fits.getdata(out), expected, rtol=1e-6)
