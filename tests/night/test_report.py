"""The report: all that a night's reader asks, self-contained, escaped, and bounded in size."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from small_night import make

import daskcal
from daskcal.errors import OutputError
from daskcal.night.ledger import Choice, FrameEntry, Gate, Input, Ledger, Lost, ProductEntry
from daskcal.night.report import cards, gates, page, words, write_report
from daskcal.night.run.run import reduce_night

VOID = {"meta", "img", "path", "rect", "br"}
APART = {"dd", "td", "li", "th", "summary"}  # stand apart from what is before them
NASTY = "<script>alert('x')</script>\"' onload=\"evil()\n{{ 7 * 7 }} \u202e" + "long" * 500
BIAS, FLAT, SCIENCE = "masters/bias.fits", "masters/flat_V.fits", "science/m67_V_0.fits"


class Page(HTMLParser):
    """What a browser would make of the page; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.text, self.titles = [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " " * (tag in APART)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "title" in self.open:
            self.titles.append(data)
        elif "style" not in self.open:
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self):
        return re.sub(r"\s+", " ", self.text)


def page_of(path) -> Page:
    return Page(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def reduced(tmp_path_factory):
    """A small night that was really reduced: (folder, ledger)."""
    folder = tmp_path_factory.mktemp("report")
    raw = make(folder / "raw")
    (raw / "dark_2.fits").write_bytes((raw / "dark_2.fits").read_bytes()[:3000])
    out = folder / "my night"
    return out, reduce_night(raw, out, command="daskcal reduce raw -o 'my night'")


@pytest.fixture
def night(reduced, tmp_path):
    """A copy of it, judged by gates, with choices and a message."""
    made, ledger = reduced
    out = tmp_path / "my night"
    shutil.copytree(made, out)
    judged = [
        Gate("bias_level", BIAS, 1000.0 + i, "pass", f"bias_{i}.fits", 990, 1010, "adu")
        for i in range(4)
    ]
    judged += [
        Gate("bias_level", BIAS, 31000.0, "reject", "bias_4.fits", 990, 1010, "adu", "a leak?"),
        Gate("read_noise", BIAS, 4.1, "warn", "", math.nan, 4.0, "adu", "noisier than 4 adu"),
        Gate("rejected_fraction", SCIENCE, 0.001, "pass", "m67_V_0.fits", high=0.02),
    ]  # fmt: skip
    leak = FrameEntry("bias_4.fits", 0, "skipped", "bias_level 31000 adu", imagetyp="bias")
    bad = FrameEntry("bias_5.fits", 0, "skipped", "marked bad: moon", imagetyp="bias")
    lost = {BIAS: (Lost(Input("bias_4.fits", 0, ""), "gate bias_level: a leak?"),)}
    products = tuple(
        dataclasses.replace(p, reused=p.name == FLAT, lost=lost.get(p.name, ()))
        for p in ledger.products
    )
    missing = ProductEntry(
        "science/m33.fits", "science", "missing", reason="no flat for filter 'r'"
    )
    return out, dataclasses.replace(
        ledger, gates=tuple(judged), frames=(*ledger.frames, leak, bad),
        products=(*products, missing), messages=("the read noise disagrees",),
        choices=(Choice("exclude", "*_test*", ("t_test.fits",)),
                 Choice("bad", "moon", ("bias_5.fits",))),
    )  # fmt: skip


def test_shows_everything(night):
    shown = page_of(write_report(*night))
    for text in (
        "my night",
        "Made, with frames or products left out.",
        "4 masters and 4 science products from 16 of 19 frames",
        "Observed 2024-03-01 02:00 to 03:36 UTC",
        "the read noise disagrees",
        "science/m33.fits missing no flat for filter 'r'",
        "made anew 7 reused 1 missing 1",
        "judged 7 passed 5 warned 1 rejected 1",
        "marked bad moon bias_5.fits",
        "excluded by *_test* t_test.fits",
        "failed " + next(f.reason for f in night[1].frames if f.path == "dark_2.fits"),
        "skipped bias_level 31000 adu bias_4.fits bias",
        "flat (V, 2 s), from 3 frames, 32 × 24",
        "science (M 67, V, 60 s), from 1 frame",
        '"step": "combine"',
        "passes every rule",
        "what took longest",
        "daskcal reduce raw -o 'my night'",
    ):
        assert text in shown.words, text
    assert [image["alt"] for image in shown.all("img")] == [
        f"Picture of {p.name}" for p in night[1].products if p.status == "made"
    ]
    ids = {attrs["id"] for attrs in shown.all("section") if "id" in attrs}
    assert ids >= {
        "messages", "not-made", "left-out", "choices", "gates", "masters", "science", "frames",
        "times",
    }  # fmt: skip


def test_gates_are_drawn_over_time_with_their_limits(night):
    text = write_report(*night).read_text("utf-8")
    charts = re.findall(r'<svg class="series".*?</svg>', text, re.DOTALL)
    assert len(charts) == 1  # of one number there is no chart
    shown = Page(charts[0])
    label = shown.all("svg")[0]["aria-label"]
    assert label == (
        "bias level of masters/bias.fits: 5 values: 4 pass, 1 reject; limits 990 to 1010 adu"
    )
    marks = [path["class"] for path in shown.all("path") if path["class"] in ("pass", "reject")]
    assert marks == ["pass"] * 4 + ["reject"]
    assert "bias_4.fits: 31000 adu (990 to 1010)\na leak?" in "".join(shown.titles)
    assert sum(path["class"] == "band" for path in shown.all("path")) == 1
    assert "adu" in shown.text


def test_a_frame_left_out_by_a_gate_is_named_with_its_product(night):
    shown = page_of(write_report(*night)).words
    assert "masters/bias.fits 1 frame left out" in shown
    assert "Left out (1) bias_4.fits: gate bias_level: a leak?" in shown
    assert "bias_0.fits 1 gate passed" in shown
    assert "read noise 4.1 adu (at most 4) warn" in shown
    assert "warn read noise masters/bias.fits 4.1 adu at most 4 noisier than 4 adu" in shown


def test_needs_nothing_but_itself(night):
    path = write_report(*night)
    text = path.read_text("utf-8")
    shown = Page(text)
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    assert not {"script", "link", "iframe", "object", "base", "form"} & {t for t, _ in shown.tags}
    assert all(one["src"].startswith("data:image/") for one in shown.all("img"))
    assert "http:" not in text
    assert "https:" not in text
    assert "//" not in re.sub(r"base64,[^\"]*", "", text)
    assert "url(" not in text
    assert {"name": "color-scheme", "content": "light dark"} in shown.all("meta")
    assert "prefers-color-scheme: dark" in text


def test_links_lead_somewhere(night):
    path = write_report(*night)
    shown = page_of(path)
    ids = [attrs["id"] for _, attrs in shown.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [one["href"] for one in shown.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    files = [link for link in links if not link.startswith("#")]
    assert len(files) == 8
    assert all((path.parent / file).is_file() for file in files)


def test_products_that_were_made_and_are_not_as_they_were_are_said(night):
    out, ledger = night
    (out / SCIENCE).unlink()
    with open(out / FLAT, "r+b") as file:
        file.truncate(4000)
    changed = out / BIAS
    content = bytearray(changed.read_bytes())
    content[-2000] ^= 1
    changed.write_bytes(content)
    shown = page_of(write_report(out, ledger))
    assert len(shown.all("img")) == 5
    assert f"{SCIENCE}: it is not there any more" in shown.words
    assert f"{FLAT}: it is 4000 bytes, and was" in shown.words
    assert f"{BIAS}: its content is not what was made" in shown.words
    assert "damaged" in {one.get("id") for one in shown.all("section")}


def test_a_product_cut_short_whose_size_is_not_known_is_said(night):
    out, ledger = night
    products = tuple(dataclasses.replace(p, size=0, checksum="") for p in ledger.products)
    with open(out / FLAT, "r+b") as file:
        file.truncate(4000)
    shown = page_of(write_report(out, dataclasses.replace(ledger, products=products)))
    assert len(shown.all("img")) == 7
    assert "truncated" in shown.words or "bytes" in shown.words


def test_written_again_it_reads_no_product(night, monkeypatch):
    out, ledger = night
    first = write_report(out, ledger).read_bytes()

    def refuse(*_):
        raise AssertionError("a product was read")

    monkeypatch.setattr("daskcal.night.report.looks.look_at", refuse)
    assert write_report(out, ledger).read_bytes() == first


def test_what_changed_since_the_page_is_looked_at_again(night):
    out, ledger = night
    write_report(out, ledger)
    index = next(i for i, p in enumerate(ledger.products) if p.name == SCIENCE)
    with fits.open(out / SCIENCE) as hdus:
        hdus[0].data[:] = 77.0
        hdus.writeto(out / SCIENCE, overwrite=True)
    again = dataclasses.replace(
        ledger.products[index], checksum="other", figures={}, size=(out / SCIENCE).stat().st_size
    )
    os.utime(out / SCIENCE, ns=(0, 0))  # however old the file is
    products = (*ledger.products[:index], again, *ledger.products[index + 1 :])
    shown = page_of(write_report(out, dataclasses.replace(ledger, products=products)))
    assert "median 77" in shown.words


@pytest.mark.parametrize("edit", ['data-look="[1]"', 'data-look="{}"', 'data-look="x"'])
def test_a_page_that_somebody_edited_is_not_believed(night, edit):
    out, ledger = night
    path = write_report(out, ledger)
    first = path.read_text("utf-8")
    path.write_text(re.sub(r'data-look="[^"]*"', edit, first), "utf-8")
    assert write_report(out, ledger).read_text("utf-8") == first


def hostile_ledger() -> Ledger:
    frame = FrameEntry(NASTY, 1, "skipped", NASTY, NASTY, NASTY, 1.0, NASTY, NASTY, NASTY, NASTY)
    used = FrameEntry(NASTY, 2, "used", NASTY, NASTY, "bias", 1.0, NASTY, NASTY, NASTY, NASTY + "2")
    judged = [Gate(NASTY, NASTY, i, "warn", NASTY, 0, 9, NASTY, NASTY) for i in range(4)]
    product = ProductEntry(
        NASTY, "science", "made", inputs=(Input(NASTY, 2, NASTY),), masters=(NASTY,),
        parameters={NASTY: NASTY}, reason=NASTY, rules=(NASTY,), figures={NASTY: 1.0},
    )  # fmt: skip
    missing = dataclasses.replace(product, name="2" + NASTY, status="missing")
    return Ledger(NASTY, NASTY, NASTY, NASTY, NASTY, (Choice("select", NASTY, (NASTY,)),),
                  (frame, used), (product, missing), (NASTY,), tuple(judged))  # fmt: skip


def test_header_text_is_escaped(tmp_path):
    path = write_report(tmp_path, hostile_ledger())
    shown = page_of(path)
    assert not shown.all("script")
    assert not any(name.startswith("on") for _, attrs in shown.tags for name in attrs)
    assert shown.text.count("<script>alert('x')</script>") > 20
    assert "{{ 7 * 7 }}" in shown.text
    assert "\u202e" not in path.read_text("utf-8")  # it would turn what follows around
    assert shown.all("svg")[0]["aria-label"].startswith("<script>")


def test_a_file_name_is_escaped_in_links_and_pictures(tmp_path):
    name = "science/<b onload='x'>&\"%41?#.fits"
    (tmp_path / "science").mkdir()
    fits.writeto(tmp_path / name, np.ones((4, 4), np.float32))
    outside = "../../etc/x.fits"
    ledger = Ledger("1", products=(
        ProductEntry(name, "science", "made"), ProductEntry(outside, "science", "made")
    ))  # fmt: skip
    shown = page_of(write_report(tmp_path, ledger))
    assert shown.all("img")[0]["alt"] == f"Picture of {name}"
    assert not shown.all("b")[1:]  # the verdict is the page's own
    links = [one["href"] for one in shown.all("a") if one["href"].startswith("..")]
    assert links == ["../science/%3Cb%20onload%3D%27x%27%3E%26%22%2541%3F%23.fits"]
    assert cards.link("/etc/passwd") == ""


def test_text_that_is_not_unicode_does_no_harm(tmp_path):
    frame = FrameEntry("\udcff.fits", 0, "failed", "bad\x00card")
    path = write_report(tmp_path, Ledger("1", frames=(frame,)))
    text = path.read_text("utf-8")
    assert r"\udcff.fits" in text
    assert r"bad\x00card" in text


def test_an_empty_night_has_a_report(tmp_path):
    shown = page_of(write_report(tmp_path, Ledger("1")))
    assert "Not all right" in shown.text
    assert not shown.all("article")


def test_same_night_same_bytes(night):
    out, ledger = night
    first = write_report(out, ledger).read_bytes()
    shutil.rmtree(out / "report")
    assert write_report(out, ledger).read_bytes() == first


def test_figures_of_the_ledger_stand_before_measured_ones(night):
    out, ledger = night
    products = tuple(
        dataclasses.replace(p, figures={"median": 5.0, "rms": math.nan, "some_fraction": 0.0123})
        for p in ledger.products
        if p.name == BIAS
    )
    shown = page_of(write_report(out, dataclasses.replace(ledger, products=products))).words
    assert "median 5 adu σ (MAD)" in shown  # 5 is the ledger's; the pixels' is near 1000
    assert "rms unknown some fraction 1.23 %" in shown
    assert re.search(r"σ \(MAD\) [\d.]+ adu", shown)


def synthetic(count: int, tmp_path: Path) -> Ledger:
    """A night of so many science frames, all products links to one file."""
    noise = np.random.default_rng(6).normal(500, 20, (600, 600)).astype(np.float32)
    (tmp_path / "science").mkdir()
    fits.writeto(tmp_path / "science" / "0.fits", noise)
    frames, products, judged = [], [], []
    for i in range(count):
        name = f"science/{i}.fits"
        if i:
            os.link(tmp_path / "science" / "0.fits", tmp_path / name)
        frame = FrameEntry(
            f"raw/{i}.fits", 0, "used", f"in {name}", "ff" * 20, "science", 30.0, "g"
        )
        rules = tuple(f"rule {k} of frame {i}: " + "x" * 60 for k in range(100))
        frames.append(frame)
        inputs = (Input(frame.path, 0, frame.fingerprint),)
        products.append(
            ProductEntry(name, "science", "made", inputs=inputs, rules=rules, checksum=f"{i}")
        )
        judged.append(Gate("rejected_fraction", name, i / 1e6, "pass", frame.path, high=0.1))
    return Ledger("1", frames=tuple(frames), products=tuple(products), gates=tuple(judged))


def test_a_night_of_many_products_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PIXELS_SHOWN", 400_000)
    monkeypatch.setattr(cards, "TEXTS_SHOWN", 200_000)
    count = 120
    path = write_report(tmp_path, synthetic(count, tmp_path))
    assert path.stat().st_size < 0.8 * 400_000 + 1.1 * 200_000 + 5000 * count
    shown = page_of(path)
    assert len(shown.all("img")) == count
    assert "Why these masters: in night.json" in shown.words  # their texts are too long in all
    series = next(svg for svg in shown.all("svg") if svg["class"] == "series")
    assert "120 values" in series["aria-label"]


@pytest.mark.parametrize("pictures", [1, 60, 61, 1000, page.CARDS_SHOWN])
def test_pictures_stay_bounded(pictures):
    size = page.picture_size(pictures)
    assert page.SMALLEST_PICTURE <= size <= page.PICTURE_SIZE
    assert pictures * size**2 <= page.PIXELS_SHOWN


def test_what_is_cut_short_is_said(night, monkeypatch):
    out, ledger = night
    for module, name in (
        (page, "FRAMES_SHOWN"), (page, "FRAMES_OF_A_REASON"), (page, "REASONS_SHOWN"),
        (cards, "INPUTS_SHOWN"), (gates, "ROWS_SHOWN"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(page, "CARDS_SHOWN", 5)
    monkeypatch.setattr(gates, "CHARTS_SHOWN", 0)
    third = dataclasses.replace(ledger.frames[-1], path="bias_6.fits")
    ledger = dataclasses.replace(ledger, frames=(*ledger.frames, third))
    shown = page_of(write_report(out, ledger))
    for text in (
        "15 more frames used",
        "2 more reasons in night.json",
        "and 3 more, in night.json",  # inputs of the bias
        "4 more are in night.json",  # gates that passed
        "Not drawn: 1 chart",
        "More products 3",
    ):
        assert text in shown.words, text
    assert len(shown.all("img")) == 5


def test_many_products_are_shown_small(night, monkeypatch):
    monkeypatch.setattr(page, "MANY", 3)
    text = write_report(*night).read_text("utf-8")
    assert text.count('<div class="tiles">') == 2
    assert "<summary>More</summary>" in text
    assert len(Page(text).all("img")) == 8


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(OutputError, match=r"index\.html"):
        write_report(tmp_path, Ledger("1"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-3.0, "−3"), (1001.2345, "1001.2"), (24110.5, "24110.5"), (0.060717, "0.060717"),
     (math.nan, "unknown"), (math.inf, "unknown"), (1e12, "1e+12")],
)  # fmt: skip
def test_numbers_read_well(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(math.nan, ""), (0.0316, "0.032 s"), (9.96, "10 s"), (59.4, "59 s"), (61, "1 min 1 s"),
     (7260, "2 h 1 min")],
)  # fmt: skip
def test_durations_read_well(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize("width", [400, 1400])
def test_fits_the_width_of_a_screen(night, tmp_path, width):
    """In Chromium, everything unfolded: nothing sticks out, and each picture is drawn."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    report = write_report(*night)
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"""<iframe id="page" src="{report.as_uri()}" style="width:{width}px;height:900px;border:0">
        </iframe><script>
        document.getElementById("page").onload = (event) => {{
          const page = event.target.contentDocument
          page.querySelectorAll("details").forEach((one) => {{ one.open = true }})
          const drawn = [...page.images].filter((one) => one.naturalWidth > 0).length
          const root = page.documentElement
          document.title = (root.scrollWidth - root.clientWidth) + " " + drawn
        }}</script>"""
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    done = subprocess.run(
        [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000",
         "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert "<title>0 8</title>" in done.stdout


def test_charts_of_gates_that_passed_are_folded_where_there_are_many(night, monkeypatch):
    monkeypatch.setattr(gates, "FEW", 1)
    out, ledger = night
    passed = [
        Gate("read_out", BIAS, 1.0 + i, "pass", f"bias_{i}.fits", 0, 9, "adu") for i in range(4)
    ]
    ledger = dataclasses.replace(ledger, gates=(*ledger.gates, *passed))
    text = write_report(out, ledger).read_text("utf-8")
    folded = text.index("Charts of gates that all passed (1)")
    assert text.index("bias level of masters") < folded < text.index("read out of masters")


def test_products_of_a_mosaic_stand_together(tmp_path):
    frames, products = [], []
    for k, detector in enumerate(("CCD 1", "CCD 2")):
        for kind, stem in (("bias", "masters/bias"), ("science", "science/m67_001")):
            frame = FrameEntry(f"{kind}.fits", k + 1, "used", "in it", imagetyp=kind,
                               detector=detector)  # fmt: skip
            name = f"{stem}_CCD_{k + 1}.fits"
            (tmp_path / name).parent.mkdir(exist_ok=True)
            fits.writeto(tmp_path / name, np.full((6, 8), k, np.float32))
            frames.append(frame)
            inputs = (Input(frame.path, frame.hdu, ""),)
            products.append(ProductEntry(name, kind, "made", inputs=inputs))
    ledger = Ledger("1", frames=tuple(frames), products=tuple(products))
    shown = page_of(write_report(tmp_path, ledger))
    assert "bias 2 detectors" in shown.words
    assert "m67_001 2 detectors" in shown.words
    assert "CCD 2, science, from 1 frame, 8 × 6" in shown.words
    assert "bias.fits [CCD 1]" in shown.words
    assert len(shown.all("img")) == 4


def test_a_store_is_a_sheet_of_its_frames(reduced, tmp_path):
    raw = reduced[0].parent / "raw"
    frames = daskcal.open_frames(sorted(raw.glob("m67_*.fits")))
    (tmp_path / "science").mkdir()
    daskcal.to_zarr(frames, tmp_path / "science" / "frames.zarr")
    entry = ProductEntry("science/frames.zarr", "science", "made", checksum="ab", size=1)
    gone = dataclasses.replace(entry, name="science/other.zarr")
    ledger = Ledger("1", products=(entry, gone))
    shown = page_of(write_report(tmp_path, ledger))
    (sheet,) = shown.all("img")
    assert (int(sheet["width"]), int(sheet["height"])) == (2 * 33, 2 * 25)
    assert "4 frames of 32 × 24" in shown.words
    median = float(re.search(r"median ([\d.]+) adu", shown.words)[1])
    assert median == pytest.approx(float(np.median(frames.image.values)), abs=2)
    assert "science/other.zarr: it is not there any more" in shown.words
    chunks = (tmp_path / "science" / "frames.zarr" / "image").rglob("0")
    next(path for path in chunks if path.is_file()).unlink()
    (tmp_path / "report" / "index.html").unlink()
    assert "science/frames.zarr: " in page_of(write_report(tmp_path, ledger)).words
