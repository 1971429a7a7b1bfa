"""Pages of the site that stand elsewhere already: keys of the config, notebooks, READMEs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from daskcal.fits import DEFAULT_KEYWORDS
from daskcal.night.config.template import template

REPOSITORY = Path(__file__).parents[1]
READMES = ("deploy/*/README.md", "benchmarks/README.md")
ORDER = (  # in which they are read; others follow
    "first_night",
    "combine_biases",
    "combine_darks",
    "calibrate_flats",
    "combine_flats",
    "reduce_science",
    "plan_and_remake",
    "cluster_and_zarr",
    "real_frames",
)
NOTEBOOKS = """\
# Notebooks

The chapters of the [CCD Data Reduction Guide](https://www.astropy.org/ccd-reduction-and-photometry-guide/)
on daskcal, each with two cameras and each ending with the same step by ccdproc, and more. They run
as they are: `jupyter lab notebooks` in a clone of the repository.

```{toctree}
:maxdepth: 1

"""


def write(site: Path) -> None:
    """Make the folders `notebooks` and `repository` anew below the site's sources."""
    for name in ("notebooks", "repository", "reference/api"):
        shutil.rmtree(site / name, ignore_errors=True)
        (site / name).mkdir()
    (site / "repository" / "config_keys.md").write_text(config_keys(), encoding="utf-8")
    (site / "repository" / "keywords.md").write_text(keywords(), encoding="utf-8")
    for pattern in READMES:
        for page in REPOSITORY.glob(pattern):
            copy = site / "repository" / page.relative_to(REPOSITORY)
            copy.parent.mkdir(parents=True)
            text = re.sub(r"\[([^]]+)\]\((?!http|#)[^)]*\)", r"\1", page.read_text("utf-8"))
            copy.write_text("---\norphan: true\n---\n" + text, encoding="utf-8")
    shutil.copytree(REPOSITORY / "notebooks" / "pictures", site / "notebooks" / "pictures")
    found = sorted((REPOSITORY / "notebooks").glob("*.ipynb"), key=place)
    for notebook in found:
        shown = as_shown(json.loads(notebook.read_text(encoding="utf-8")))
        (site / "notebooks" / notebook.name).write_text(json.dumps(shown), encoding="utf-8")
    index = NOTEBOOKS + "".join(f"{notebook.stem}\n" for notebook in found) + "```\n"
    (site / "notebooks" / "index.md").write_text(index, encoding="utf-8")


def place(notebook: Path) -> tuple[int, str]:
    """Where a notebook stands among the others."""
    name = notebook.stem
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def as_shown(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook whose cells may hold commands (``!daskcal``), and whose links stay in the site."""
    notebook["metadata"].setdefault("language_info", {"name": "python"})
    notebook["metadata"]["language_info"]["pygments_lexer"] = "ipython3"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = "".join(cell["source"]).replace("](../docs/", "](../")
    return notebook


def config_keys() -> str:
    """The template of a config, a heading for each table, as Markdown."""
    _, *tables = re.split(r"\n\n(?=#|\[)", template())
    pages = []
    for table in tables:
        name = re.search(r"^(?:# )?(\[+[\w.]+\]+)$", table, flags=re.M)
        heading = f"## `{name[1]}`" if name else "## Before any table"
        pages.append(f"{heading}\n\n```toml\n{table.strip()}\n```\n")
    return "\n".join(pages)


def keywords() -> str:
    """Tables of the names, with the header keywords of each, and of the words for types."""
    names = (
        (name, " ".join(f"`{key}`" for key in keys))
        for name, keys in DEFAULT_KEYWORDS.aliases.items()
    )
    words: dict[str, list[str]] = {}
    for word, kind in DEFAULT_KEYWORDS.types.items():
        words.setdefault(kind, []).append(f"`{word}`")
    types = ((kind, " ".join(found)) for kind, found in words.items())
    about = "Case, blanks and signs do not count: `Bias Frame` is `BIASFRAME`."
    return "\n".join(
        (_table("name", "keywords", names), f"\n## Types of frames\n\n{about}\n",
         _table("type", "words", types))
    )  # fmt: skip


def _table(name: str, values: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = (f"| `{first}` | {second} |" for first, second in rows)
    return "\n".join((f"| {name} | {values} |", "| --- | --- |", *lines, ""))


def links_within_site(app, name: str, source: list[str]) -> None:
    """Links to files that the site has copied lead to its copies."""
    source[0] = re.sub(r"\]\(\.\./\.\./(deploy|benchmarks)/", r"](../repository/\1/", source[0])


def short_signature(app, what, name, thing, options, signature, returns):
    """The signature without the text of the default table of keywords, which has a page."""
    if signature is None:
        return None
    return re.sub(r"Keywords\(aliases=.*\}\)\)", "DEFAULT_KEYWORDS", signature), returns
