"""The errors of means of ranked values, against simulations, tables and each other."""

from __future__ import annotations

import numpy as np
import pytest

from daskcal.combination.kernels import order_errors
from daskcal.combination.kernels.median_error import median_factors
from daskcal.combination.kernels.minmax import minmax_counts
from daskcal.combination.kernels.order_errors import second_moment, winsorised_squares
from daskcal.combination.kernels.uncertainty import variance_gains


def test_all_ranks_are_the_mean():
    for n in (1, 2, 7, 100, 101, 5000):
        assert n * second_moment(n, 1, n) == pytest.approx(1, abs=1e-12)
    for n in (2, 7, 100, 101):
        assert winsorised_squares(n, 1, n) == pytest.approx(n - 1, rel=1e-12)


def test_the_middle_ranks_are_the_tabulated_median():
    found = [np.sqrt(n * second_moment(n, (n + 1) // 2, n // 2 + 1)) for n in range(1, 101)]
    np.testing.assert_allclose(found, median_factors(100)[1:], atol=6e-7)


def test_known_moments_of_order_statistics():
    """Teichroew's and Sarhan & Greenberg's tables: E[x²] of the largest of n."""
    for n, square in ((2, 1.0), (3, 1.2756644477), (4, 1.5513288954), (5, 1.8000204329)):
        assert second_moment(n, n, n) == pytest.approx(square, abs=1e-7)
        assert second_moment(n, 1, 1) == pytest.approx(square, abs=1e-7)


@pytest.mark.parametrize(
    ("n", "r", "s"),
    [(5, 2, 4), (10, 1, 7), (10, 3, 4), (20, 2, 19), (3, 2, 3), (60, 10, 58), (8, 3, 3)],
)
def test_moments_are_those_of_a_simulation(n, r, s):
    ordered = np.sort(np.random.default_rng(n).normal(size=(40_000, n)), axis=1)
    mean = ordered[:, r - 1 : s].mean(axis=1)
    assert (mean**2).mean() == pytest.approx(second_moment(n, r, s), rel=0.03)
    squares = np.clip(ordered, ordered[:, [r - 1]], ordered[:, [s - 1]]).var(axis=1).mean() * n
    assert squares == pytest.approx(winsorised_squares(n, r, s), rel=0.03, abs=1e-12)


@pytest.mark.parametrize("n", [101, 250])
def test_many_values_are_as_good_as_exact(n, monkeypatch):
    ranks = [(2, n - 1), (11, n - 10), (n // 4, n - n // 4 + 1), (n // 2, n // 2), (1, n - 1),
             (3, n), (1, n - 20), (5, n - 40)]  # fmt: skip
    many = [(second_moment(n, *rs), winsorised_squares(n, *rs)) for rs in ranks]
    monkeypatch.setattr(order_errors, "EXACT", n)
    for (moment, squares), (r, s) in zip(many, ranks, strict=True):
        tolerance = 3e-3 if r - 1 == n - s or r == s else 0.02
        assert moment == pytest.approx(second_moment(n, r, s), rel=tolerance)
        if s > r:
            assert moment / squares == pytest.approx(
                second_moment(n, r, s) / winsorised_squares(n, r, s), rel=tolerance
            )


@pytest.mark.parametrize("method", ["average", "median", "lower_median"])
def test_minmax_that_rejects_nothing_is_no_rejection(method):
    none = tuple([0] * 13)
    plain = variance_gains(method, 12)
    np.testing.assert_allclose(variance_gains(method, 12, (none, none))[1:], plain[1:], rtol=1e-6)
    scatter = variance_gains(method, 12, (none, none), scatter=True)
    count = np.arange(2, 13)
    np.testing.assert_allclose(scatter[2:] * count * (count - 1), plain[2:], rtol=1e-6)
    assert np.isnan(scatter[:2]).all()


def test_a_median_does_not_mind_what_minmax_takes_from_both_ends():
    lost = minmax_counts(9, 2, 2)
    good, left = np.arange(5, 10), np.arange(5, 10) - 4
    found = variance_gains("median", 9, lost)[5:]
    np.testing.assert_allclose(found / left, median_factors(9)[5:] ** 2 / good, rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "sides", "of"),
    [
        (10, (1, 2), {10: (1, 2), 4: (1, 2), 3: (0, 0), 1: (0, 0), 0: (0, 0)}),
        (10, (0.2, 0.3), {10: (2, 3), 5: (1, 1), 3: (0, 0)}),
        (100, (0.29, 0), {100: (29, 0), 50: (14, 0)}),
        (10, (8, 0.1), {10: (8, 1), 9: (8, 0), 5: (4, 0)}),
        (4, (0.9, 0.05), {4: (3, 0), 2: (1, 0), 1: (0, 0)}),
    ],
)
def test_how_many_values_minmax_takes(n, sides, of):
    low, high = minmax_counts(n, *sides)
    assert len(low) == len(high) == n + 1
    assert {g: (low[g], high[g]) for g in of} == of
    assert all(g == 0 or low[g] + high[g] < g for g in range(n + 1))
