"""Sections as people and headers write them, against slices of an array of coordinates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskcal.errors import GeometryError
from daskcal.frames.sections import Section, fits_section, python_section

SHAPE = (20, 30)


def cut(section: Section) -> np.ndarray:
    return np.arange(600).reshape(SHAPE)[section.y0 : section.y1, section.x0 : section.x1]


@pytest.mark.parametrize(
    "text", ["[:, 25:]", "[3:-2, :]", "[-5:, -7:-1]", " [ 2 : 9 , 0:30 ] ", "[4:8]", "[:20, +1:30]"]
)
def test_python_sections_are_slices(text):
    expected = eval(f"np.arange(600).reshape({SHAPE}){text.strip()}")
    np.testing.assert_array_equal(cut(python_section(text, SHAPE)), expected)


@given(st.tuples(*[st.integers(-20, 20)] * 2), st.tuples(*[st.integers(-30, 30)] * 2))
def test_python_slices_as_numpy_takes_them(rows, columns):
    index = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
    expected = np.arange(600).reshape(SHAPE)[index]
    if expected.size:
        np.testing.assert_array_equal(cut(python_section(index, SHAPE)), expected)
    else:
        with pytest.raises(GeometryError, match="empty"):
            python_section(index, SHAPE)


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [
        ("[26:30,1:20]", slice(0, 20), slice(25, 30)),
        ("[ 26 : 30 , 1 : 20 ]", slice(0, 20), slice(25, 30)),
        ("[30:26,20:1]", slice(0, 20), slice(25, 30)),
        ("[*,5:5]", slice(4, 5), slice(0, 30)),
        ("[-*,7]", slice(6, 7), slice(0, 30)),
        ("1:2,3:4", slice(2, 4), slice(0, 2)),
    ],
)
def test_fits_sections_are_one_based_and_x_first(text, rows, columns):
    expected = np.arange(600).reshape(SHAPE)[rows, columns]
    np.testing.assert_array_equal(cut(fits_section(text, SHAPE)), expected)


@pytest.mark.parametrize("text", ["[0:5,1:20]", "[1:31,1:20]", "[1:30,1:21]", "[1:5,1:30]"])
def test_fits_sections_outside_are_refused_at_once(text):
    with pytest.raises(GeometryError, match=r"30 columns × 20 rows"):
        fits_section(text, SHAPE)


@pytest.mark.parametrize("text", ["", "[1:2]", "[1:2,3:4,5:6]", "[a:b,1:2]", "[1:,1:2]", "1 to 2"])
def test_what_is_no_fits_section(text):
    with pytest.raises(GeometryError, match=r"should look like"):
        fits_section(text, SHAPE)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[:, 31:]", "leaves the image"),
        ("[:, :31]", "leaves the image"),
        ("[-21:, :]", "leaves the image"),
        ("[5:5, :]", "empty"),
        (np.s_[::2, :], "step"),
        ("[1]", "should look like"),
        ("1:2, 3:4", "should look like"),
        (np.s_[:, :, :], "axes"),
        ((1, 2), "not a section"),
        (7, "not a section"),
    ],
)
def test_what_is_no_python_section(section, message):
    with pytest.raises(GeometryError, match=message):
        python_section(section, SHAPE)
