"""A ledger read from all sides: which frame an input is, how it was judged, whose product it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from daskcal.frames.detector_names import safe_name
from daskcal.night.ledger import VERDICTS, FrameEntry, Gate, Input, Ledger, ProductEntry


@dataclass(frozen=True)
class Book:
    """What the report looks up in a ledger."""

    ledger: Ledger

    @cached_property
    def _by_input(self) -> dict[tuple[str, int | None], FrameEntry]:
        return {(frame.path, frame.hdu): frame for frame in self.ledger.frames}

    @cached_property
    def by_place(self) -> dict[str, FrameEntry]:
        """Frames, as gates name them."""
        return {frame.place: frame for frame in self.ledger.frames}

    @cached_property
    def products(self) -> dict[str, ProductEntry]:
        """Products by name."""
        return {product.name: product for product in self.ledger.products}

    @cached_property
    def judged(self) -> dict[tuple[str, str], list[Gate]]:
        """Gates by product and frame; those of the product itself have the frame ""."""
        gates: dict[tuple[str, str], list[Gate]] = defaultdict(list)
        for gate in self.ledger.gates:
            gates[gate.product, gate.frame].append(gate)
        return gates

    @cached_property
    def verdicts(self) -> dict[str, str]:
        """The worst verdict on each product and its frames, where there is one."""
        found: dict[str, str] = {}
        for gate in self.ledger.gates:
            before = found.get(gate.product, gate.verdict)
            found[gate.product] = max(before, gate.verdict, key=VERDICTS.index)
        return found

    def frame(self, one: Input) -> FrameEntry | None:
        """The frame that an input is; None for a master or a file that is none of the night's."""
        return self._by_input.get((one.path, one.hdu))

    def place(self, one: Input) -> str:
        """Where an input lies, as gates name it."""
        frame = self.frame(one)
        return frame.place if frame else one.path

    def frames_of(self, product: ProductEntry) -> list[FrameEntry]:
        """The frames that went into a product."""
        found = (self.frame(one) for one in product.inputs if one.role == "frame")
        return [frame for frame in found if frame is not None]

    def detector(self, product: ProductEntry) -> str:
        """The detector of a product; "" where it is not known, or the night has only one."""
        if len(self._detectors) < 2:
            return ""
        names = {frame.detector for frame in self.frames_of(product)}
        return names.pop() if len(names) == 1 else ""

    @cached_property
    def _detectors(self) -> set[str]:
        return {frame.detector for frame in self.ledger.frames if frame.detector}

    def stem(self, product: ProductEntry) -> str:
        """The name of a product without folder, ending and detector: alike for all of a mosaic."""
        stem = product.name.rsplit("/", 1)[-1].removesuffix(".fits").removesuffix(".zarr")
        detector = self.detector(product)
        return stem.removesuffix(f"_{safe_name(detector)}") if detector else stem


def worst(gates: Sequence[Gate]) -> str:
    """The worst verdict of some gates; "" of none."""
    return max((gate.verdict for gate in gates), key=VERDICTS.index, default="")
