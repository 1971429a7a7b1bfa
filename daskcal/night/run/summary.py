"""What has come of a run, on one screen."""

from __future__ import annotations

from collections import Counter

from daskcal.night.ledger import Ledger
from daskcal.night.output.place import Place

_LINES = 20
_APART = 3  # frames or products of one fate that have lines of their own
_NAMED = 12  # on the line of more


def summary(ledger: Ledger, output: Place) -> str:
    """What was left out and why, what was counted, and where the rest is to be read."""
    fates: dict[tuple[str, str], list[str]] = {}
    for frame in ledger.frames:
        if frame.status != "used":
            fates.setdefault((frame.status, frame.reason), []).append(frame.place)
    for product in ledger.products:
        if product.status != "made":
            fates.setdefault((product.status, product.reason), []).append(product.name)
    lines = [
        line for (status, reason), names in fates.items() for line in _said(status, reason, names)
    ]
    if len(lines) > _LINES:
        lines[_LINES:] = [f"and {len(lines) - _LINES} more: {output.at('night.json')} has them all"]
    verdicts = Counter(gate.verdict for gate in ledger.gates if gate.verdict != "pass")
    if verdicts:
        lines.append("gates: " + ", ".join(f"{n} {word}" for word, n in sorted(verdicts.items())))
    return "\n".join([*lines, counted(ledger), f"report: {output.at('report/index.html')}"])


def counted(ledger: Ledger) -> str:
    """Frames and products by what became of them."""
    counts = ledger.counts()
    made = [product for product in ledger.products if product.status == "made"]
    reused = sum(product.reused for product in made)
    line = (
        f"{counts.found} frames found: {counts.used} used, {counts.skipped} skipped, "
        f"{counts.failed} failed; {len(made)} of {len(ledger.products)} products made"
    )
    if nothing_to_do(ledger):
        return f"nothing to do: {reused} products are as they should be\n{line} before"
    return line + (f", {reused} of them before" if reused else "")


def nothing_to_do(ledger: Ledger) -> bool:
    """Whether all that could be made was there."""
    reused = [product.reused for product in ledger.products if product.status == "made"]
    return bool(reused) and all(reused) and all(p.status != "failed" for p in ledger.products)


def _said(status: str, reason: str, names: list[str]) -> list[str]:
    if len(names) <= _APART:
        return [f"{status}: {name}: {reason}" for name in names]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"{status}: {', '.join(names[:_NAMED])}{more}: {reason}"]
