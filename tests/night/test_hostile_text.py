"""Text of headers and file names that means harm, or looks like other text: it stays text."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path

import pytest
import small_night
from astropy.io import fits
from click.testing import CliRunner, Result

from daskcal.cli import main
from daskcal.night.ledger import Ledger, read_ledger

FILTERS = (
    "../../etc/x",
    "/etc/passwd",
    "g/r",
    "g:r",  # a safe name of it is that of the one before
    "g r",
    "G R",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "..",
    "{0.__class__} %s $(touch x)",
    "CON",
    "a?b",  # what a line feed in a header is read as
)
OBJECT = "<script>alert('M 67')</script> ../../x"


class Page(html.parser.HTMLParser):
    """The tags of a page, their attributes, and what a browser would run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts.append(data)
        self.text += data


def newline_in_header(path: Path) -> None:
    """Put a line feed, and an escape of terminals, into the header's text."""
    raw = path.read_bytes()
    assert raw.count(b"'a?b") == 1
    path.write_bytes(raw.replace(b"'a?b", b"'a\nb").replace(b"a remark", b"a\x1b[31m  "))


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of its own, so that what leaves the output folder is seen beside it."""
    base = tmp_path_factory.mktemp("base")
    raw = base / "deep" / "raw"
    for i in range(3):
        small_night.write(raw / f"bias_{i}.fits", "bias", minute=i, object=OBJECT)
    for n, name in enumerate(FILTERS):
        at = small_night.write(raw / f"flat_{n}.fits", "flat", 2.0, 9000.0 + 100 * n, filter=name)
        if name == "a?b":
            newline_in_header(at)
        small_night.write(raw / f"m67_{n}.fits", "object", 60.0, 300.0, filter=name, object=OBJECT)
    small_night.write(raw / "lost.fits", "object", 60.0, filter="<b>none</b>\\", object=OBJECT)
    small_night.write(raw / "odd\nname.fits", "object", 60.0, filter="g/r")
    (raw / "cut\n.fits").write_bytes(b"SIMPLE  = ")
    return base


def run(*args: object, status: int) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def reduced(night: Path) -> tuple[Result, Ledger, Path]:
    out = night / "deep" / "out"
    result = run("reduce", night / "deep" / "raw", "-o", out, status=3)
    return result, read_ledger(out / "night.json"), out


def test_nothing_is_written_outside_of_the_output_folder(
    night: Path, reduced: tuple[Result, Ledger, Path]
) -> None:
    _, ledger, out = reduced
    assert sorted(path.name for path in night.iterdir()) == ["deep"]
    assert sorted(path.name for path in (night / "deep").iterdir()) == ["out", "raw"]
    made = {p.name for p in ledger.products if p.status == "made"}
    written = {name for name in small_night.files(out) if name.endswith(".fits")}
    assert written == made
    for path in out.rglob("*"):
        assert path.resolve().is_relative_to(out.resolve())
        assert path.name.isprintable()
    folders = {name.rpartition("/")[0] for name in made}
    assert folders == {"masters", "science"}


def test_every_filter_has_its_own_flat(reduced: tuple[Result, Ledger, Path]) -> None:
    _, ledger, out = reduced
    products = {p.name: p for p in ledger.products}
    flats = [p for p in ledger.products if p.kind == "flat"]
    assert len(flats) == len({p.name.casefold() for p in flats}) == len(FILTERS)
    for n in range(len(FILTERS)):
        science = products[f"science/m67_{n}.fits"]
        (name,) = (m for m in science.masters if "flat" in m)
        assert [i.path for i in products[name].inputs if i.role == "frame"] == [f"flat_{n}.fits"]
        (written,) = (fits.getheader(out / "masters" / Path(name).name)["FILTER"],)
        assert written == FILTERS[n].replace("?", "\n").replace("\n", "?")


def test_what_no_flat_fits_is_said_in_one_line(reduced: tuple[Result, Ledger, Path]) -> None:
    result, ledger, _ = reduced
    lost = next(p for p in ledger.products if p.name == "science/lost.fits")
    assert lost.reason.startswith(r"no flat for filter '<b>none</b>\\'")
    lines = [line for line in result.output.splitlines() if "lost.fits" in line]
    assert len([line for line in lines if "missing:" in line]) == 1


@pytest.mark.parametrize("command", ["ls", "plan"])
def test_what_a_terminal_sees(night: Path, command: str) -> None:
    raw = night / "deep" / "raw"
    result = run(command, raw, status=3)
    assert all(line.isprintable() for line in result.output.splitlines())
    assert r"odd\nname.fits" in result.output or command == "plan"  # it names products
    assert r"cut\n.fits" in result.output
    assert "\nname.fits" not in result.output


def test_a_run_says_printable_lines(reduced: tuple[Result, Ledger, Path]) -> None:
    assert all(line.isprintable() for line in reduced[0].output.splitlines())
    assert "\nname.fits" not in reduced[0].output


def test_json(night: Path) -> None:
    result = run("plan", night / "deep" / "raw", "--json", status=3)
    assert result.stdout.isascii()
    assert result.stdout.strip().isprintable()
    said = json.loads(result.stdout)
    flats = [product["name"] for product in said["products"] if product["kind"] == "flat"]
    assert len(flats) == len(FILTERS)
    wanted = {rule["wanted"] for match in said["matches"] for rule in match["rules"]}
    assert {repr(name) for name in FILTERS} <= wanted
    inputs = {name for product in said["products"] for name in product["inputs"]}
    assert any("odd" in name for name in inputs)


def test_the_report_shows_it_as_text(reduced: tuple[Result, Ledger, Path]) -> None:
    _, _, out = reduced
    page = Page()
    page.feed((out / "report" / "index.html").read_text(encoding="utf-8"))
    assert not any("alert" in script for script in page.scripts)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    addresses = [value for name, value in page.attributes if name in ("src", "href")]
    assert all(v.startswith(("#", "data:")) or ".." not in v.split("/")[1:] for v in addresses)
    assert not any(v == "x" or v.startswith("javascript") for v in addresses)
    assert "b" not in page.tags or "<b>none</b>" in page.text
    assert FILTERS[6] in page.text
