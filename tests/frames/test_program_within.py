"""Operations on a part of the detector: what they do there, and nothing elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskcal.frames.block import PLANES, Block
from daskcal.frames.program import Program
from daskcal.frames.sections import Section

N, NY, NX = 3, 6, 20
HERE = Section(100, 100 + NY, 50, 50 + NX)
RNG = np.random.default_rng(8)
RAW = RNG.integers(900, 2000, (N, NY, NX)).astype(np.uint16)
PLANE = RNG.uniform(0.5, 2, (NY, NX)).astype("f4")
BITS = RNG.integers(0, 4, (NY, NX)).astype("u2")
ROWS = RNG.uniform(800, 900, (N, NY))
ROWS[1, 2] = np.nan
COLUMNS = RNG.uniform(0, 9, (N, NX))
ONE, UNLIKE = np.ones(N), np.array([1.0, 2.0, np.nan])

OPERATIONS = {
    "subtract": lambda p: p.subtract(PLANE, UNLIKE),
    "rows": lambda p: p.subtract_rows(ROWS),
    "columns": lambda p: p.subtract_columns(COLUMNS),
    "multiply": lambda p: p.multiply(UNLIKE),
    "divide": lambda p: p.divide(PLANE),
    "noise": lambda p: p.own_noise(1000 * ONE, ONE, 9 * ONE),
    "share": lambda p: p.share(PLANE, ONE),
    "share each": lambda p: p.share(PLANE, UNLIKE),
    "share two": lambda p: p.share_two(PLANE, ONE, PLANE, -2 * ONE),
    "share square": lambda p: p.share_square(PLANE),
    "flag": lambda p: p.flag(BITS),
    "flag from": lambda p: p.flag_from(1500 * ONE, np.uint16(4)),
    "keep": lambda p: p.keep(("image",)),
}


def run(program: Program, x0=HERE.x0, x1=HERE.x1, rows=slice(0, NY)) -> dict[str, np.ndarray]:
    shape = N, rows.stop - rows.start, x1 - x0
    out = {p: np.zeros(shape, "u2" if p == "mask" else "f4") for p in PLANES}
    program.over(x0, x1).run(rows, out)
    return out


def prepared(*names: str, section: Section | None = None) -> Program:
    """All planes filled, and then some operations within a section."""
    program = Program(Block(HERE, RAW))
    program.flag(BITS)
    program.own_noise(900 * ONE, ONE, 4 * ONE)
    program.share(PLANE, ONE)
    with program.within(section):
        for name in names:
            OPERATIONS[name](program)
    return program


def inside(section: Section) -> np.ndarray:
    found = np.zeros((NY, NX), bool)
    found[section.common(HERE).within(HERE)] = True
    return found


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "section",
    [Section(102, 105, 53, 61), Section(0, 900, 60, 900), Section(101, 103, 0, 900), HERE],
)
def test_an_operation_acts_within_its_section_only(name, section):
    done, before, found = run(prepared(name)), run(prepared()), run(prepared(name, section=section))
    for plane in PLANES:
        expected = np.where(inside(section), done[plane], before[plane])
        np.testing.assert_array_equal(found[plane], expected, plane)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(OPERATIONS)),
            *[st.integers(-2, NY + 2)] * 2,
            *[st.integers(-2, NX + 2)] * 2,
        ),
        max_size=6,
    ),
    st.integers(0, NX - 1),
    st.integers(1, NX),
    st.integers(0, NY - 1),
)
def test_the_bits_are_those_of_a_loop_over_sections(operations, first, width, top):
    """A program of many sections, over any window, against one program for each pixel's column."""
    program = Program(Block(HERE, RAW))
    areas = []
    for name, y0, y1, x0, x1 in operations:
        area = Section(min(y0, y1), max(y0, y1), min(x0, x1), max(x0, x1)).shifted(100, 50)
        areas.append((name, area))
        with program.within(area):
            OPERATIONS[name](program)
    last = min(NX, first + width)
    found = run(program, 50 + first, 50 + last, slice(top, NY))
    for y in range(top, NY):
        for x in range(first, last):
            alone = Program(Block(HERE, RAW))
            for name, area in areas:
                if inside(area)[y, x]:
                    OPERATIONS[name](alone)
            one = run(alone, 50 + x, 51 + x, slice(y, y + 1))
            for plane in PLANES:
                assert (
                    one[plane].tobytes()
                    == np.ascontiguousarray(
                        found[plane][:, y - top : y - top + 1, x - first : x - first + 1]
                    ).tobytes()
                ), plane


def test_sections_within_sections_and_the_end_of_one():
    program = Program(Block(HERE, RAW))
    with program.within(Section(100, 104, 50, 70)):
        with program.within(Section(102, 106, 60, 70)):
            program.multiply(2 * ONE)
        program.multiply(3 * ONE)
    program.multiply(5 * ONE)
    factor = np.full((NY, NX), 5.0)
    factor[:4] *= 3
    factor[2:4, 10:] *= 2
    np.testing.assert_array_equal(run(program)["image"], (RAW * factor).astype("f4"))


def test_pixels_are_seen_as_they_are_by_then():
    program = Program(Block(HERE, RAW))
    with program.within(Section(100, 103, 60, 70)):
        program.multiply(2 * ONE)
    (seen,) = program.pixels(55, 65)
    expected = RAW[:, :, 5:15].astype("f4")
    expected[:, :3, 5:] *= 2
    np.testing.assert_array_equal(seen, expected)
