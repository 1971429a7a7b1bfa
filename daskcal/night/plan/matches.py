"""A plan's matches as tables and as JSON: every rule of every candidate, frame by frame."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from daskcal.night.plan.effort import effort
from daskcal.night.plan.frames import rows_that_fit

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from daskcal.masters.match import Match
    from daskcal.night.plan.jobs import Job, Missing
    from daskcal.night.plan.plan import Plan

FORMAT = "daskcal-plan-1"
COLUMNS = (
    "frame", "product", "kind", "candidate", "rule", "passed", "found", "wanted", "margin",
    "chosen", "pinned",
)  # fmt: skip


def matches_table(plan: Plan, select: str | None = None) -> pd.DataFrame:
    """A row for each frame, candidate and rule; see `Plan.matches`."""
    import pandas as pd

    wanted = rows_that_fit(plan.table, plan.frames, select) if select else None
    products: tuple[Job | Missing, ...] = (*plan.jobs, *plan.missing)
    pairs = [
        (i, product.name, match)
        for product in products
        for i, match in product.matched
        if wanted is None or wanted[i]
    ]
    rows: dict[Match, list[dict[str, Any]]] = {}
    for _, _, match in pairs:
        if match not in rows:
            rows[match] = [
                row | {"kind": match.kind, "pinned": row["chosen"] and bool(match.pinned)}
                for row in match.table()
            ]
    starts: dict[Match, int] = {}
    every: list[dict[str, Any]] = []
    for match, own in rows.items():
        starts[match] = len(every)
        every += own
    of_rules = pd.DataFrame(every, columns=COLUMNS[2:])
    for name in ("kind", "candidate", "rule", "found", "wanted"):
        of_rules[name] = of_rules[name].astype("category")
    counts = np.array([len(rows[match]) for _, _, match in pairs], np.int64)
    first = np.array([starts[match] for _, _, match in pairs], np.int64)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    table = of_rules.take(np.repeat(first, counts) + offsets).reset_index(drop=True)
    frames = pd.Categorical([plan.label(i) for i, _, _ in pairs])
    names = pd.Categorical([name for _, name, _ in pairs])
    table.insert(0, "frame", frames.take(np.repeat(np.arange(len(pairs)), counts)))
    table.insert(1, "product", names.take(np.repeat(np.arange(len(pairs)), counts)))
    return table


def matches_dataset(plan: Plan, select: str | None = None) -> xr.Dataset:
    """The same as arrays over frame, candidate and rule; see `Plan.to_xarray`."""
    import xarray as xr

    table = matches_table(plan, select)
    axes = {name: list(dict.fromkeys(table[name])) for name in ("frame", "candidate", "rule")}
    at = tuple(
        table[name].map({word: n for n, word in enumerate(words)}).to_numpy(np.int64)
        for name, words in axes.items()
    )
    shape = tuple(len(words) for words in axes.values())
    passed, margin = np.full(shape, -1, np.int8), np.full(shape, np.nan)
    passed[at], margin[at] = table["passed"], table["margin"]
    chosen = np.zeros(shape[:2], bool)
    chosen[at[:2]] = table["chosen"]
    dims = ("frame", "candidate", "rule")
    kinds = dict(zip(table["candidate"], table["kind"], strict=True))
    products = dict(zip(table["frame"], table["product"], strict=True))
    said = {"flag_values": np.array([-1, 0, 1], np.int8), "flag_meanings": "not_asked fail pass"}
    return xr.Dataset(
        {
            "passed": (dims, passed, said),
            "margin": (dims, margin, {"long_name": "what is left of the tolerance"}),
            "chosen": (dims[:2], chosen),
        },
        coords={name: (name, np.array(words, object)) for name, words in axes.items()}
        | {
            "product": ("frame", np.array([products[f] for f in axes["frame"]], object)),
            "kind": ("candidate", np.array([kinds[c] for c in axes["candidate"]], object)),
        },
    )


# --- JSON -----------------------------------------------------------------------------------------


def plan_json(plan: Plan) -> str:
    """The plan as JSON, in ASCII: whatever headers say, it is one text for machines.

    Products name the matches of their frames by number: frames that are alike to the rules share
    them. Numbers that are not finite are null.
    """
    numbers: dict[Match, int] = {}
    products = [_product(plan, job, numbers) for job in plan.jobs]
    missing = [_product(plan, lost, numbers) | {"reason": lost.reason} for lost in plan.missing]
    need = effort(plan)
    record = {
        "format": FORMAT,
        "folder": str(plan.folder),
        "frames": len(plan.frames),
        "products": products,
        "missing": missing,
        "matches": [_match(match) for match in numbers],
        "skipped": [
            {"frame": plan.label(i), "reason": why} for i, why in sorted(plan.skipped.items())
        ],
        "unreadable": [
            {"file": bad.path, "hdu": bad.hdu, "code": bad.reason, "reason": bad.message}
            for bad in plan.unreadable
        ],
        "choices": [
            {"kind": c.kind, "expression": c.expression, "frames": c.frames} for c in plan.choices
        ],
        "messages": plan.messages,
        "effort": {name: getattr(need, name) for name in need.__slots__},
    }
    return json.dumps(record, ensure_ascii=True, allow_nan=False)


def _product(plan: Plan, product: Job | Missing, numbers: dict[Match, int]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": product.name,
        "kind": product.kind,
        "inputs": [plan.label(i) for i in product.frames],
        "matches": [numbers.setdefault(match, len(numbers)) for match in product.matches],
    }
    masters = getattr(product, "masters", None)
    if masters is not None:
        said |= {"masters": masters, "scale_dark": getattr(product, "scale_dark", False)}
    return said


def _match(match: Match) -> dict[str, Any]:
    return {
        "kind": match.kind,
        "chosen": match.chosen.name if match.chosen else None,
        "scale": _finite(match.scale),
        "pinned": match.pinned or None,
        "reason": match.reason,
        "rules": [row | {"margin": _finite(row["margin"])} for row in match.table()],
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
