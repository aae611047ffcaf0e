"""Paired comparisons against scipy, Holm's procedure by hand, and its promise by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tuning.studies.statistics import compare, compare_shares


def test_one_comparison_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.02, 0.01, 6), rng.normal(0.0, 0.01, 6)
    (got,) = compare({"x": (a - b).tolist()}).values()
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert got.p == pytest.approx(expected.pvalue)
    assert (got.low, got.high) == pytest.approx((interval.low, interval.high))
    assert got.different == (expected.pvalue <= 0.05)


def test_holm_by_hand() -> None:
    """p-values .01, .04, .03: corrected .03, .06, .06, and only the first is different."""

    def pairs(p: float) -> list[float]:
        t = stats.t.isf(p / 2, 4)
        base = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
        base /= base.std(ddof=1) / np.sqrt(5)
        return (base + t).tolist()

    got = compare({"a": pairs(0.01), "b": pairs(0.04), "c": pairs(0.03)})
    assert [got[name].p for name in "abc"] == pytest.approx([0.03, 0.06, 0.06])
    assert [got[name].different for name in "abc"] == [True, False, False]
    for name in "abc":
        assert got[name].different == (got[name].low > 0), "interval and verdict disagree"


def test_no_difference_is_not_called_one_too_often() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(1000):
        got = compare({str(k): rng.normal(0, 1, 5).tolist() for k in range(4)})
        wrong += any(each.different for each in got.values())
    assert wrong / 1000 == pytest.approx(0.05, abs=0.02)


def test_equal_runs_are_no_difference_and_a_constant_one_is_judged_by_its_sign() -> None:
    got = compare({"same": [0.0, 0.0, 0.0], "shifted": [0.1, 0.1, 0.1]})
    assert not got["same"].different and got["same"].p == 1
    shifted = got["shifted"]
    assert (
        not shifted.different and shifted.p == 2 * 0.25 and shifted.low <= 0 <= shifted.high and shifted.needed is None
    )
    (six,) = compare({"x": [0.1 + 1e-12 * k for k in range(6)]}).values()
    assert six.different and six.p == 2**-5 and six.low == pytest.approx(0.1)


@pytest.mark.parametrize("images", [100, 360])
def test_equal_arms_on_a_few_images_are_seldom_called_different(images: int) -> None:
    """A score has few values there, and three equal differences come up by chance."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(300):
        base = rng.binomial(images, 0.97, 3) / images
        arms = {str(arm): (rng.binomial(images, 0.97, 3) / images - base).tolist() for arm in range(15)}
        wrong += any(each.different for each in compare(arms).values())
    assert wrong / 300 <= 0.05


def test_needed_pairs_reach_the_power() -> None:
    rng = np.random.default_rng(2)
    values = [0.3, -0.4, 0.9, 0.6, -0.2, 0.5]
    (got,) = compare({"x": values}).values()
    assert got.needed is not None and got.needed > len(values)
    mean, spread = np.mean(values), np.std(values, ddof=1)
    seen = [compare({"x": rng.normal(mean, spread, got.needed).tolist()})["x"].different for _ in range(600)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.06)


def test_one_pair_has_no_spread() -> None:
    with pytest.raises(ValueError, match="x has 1 pairs"):
        compare({"x": [0.1]})


def test_shares_by_hand() -> None:
    """Agresti and Caffo's interval: (91 / 102 - 81 / 102) and its error with one right and one wrong added to each."""
    got = compare_shares(90, 80, 100)
    one, other = 91 / 102, 81 / 102
    half = 1.959964 * ((one * (1 - one) + other * (1 - other)) / 102) ** 0.5
    assert (got.mean, got.low, got.high) == pytest.approx((0.1, one - other - half, one - other + half), abs=1e-6)
    assert not got.different and got.p == pytest.approx(2 * stats.norm.sf(1.959964 * (one - other) / half), abs=1e-6)
    assert compare_shares(95, 80, 100).different
    assert not compare_shares(100, 100, 100).different and compare_shares(100, 100, 100).low < 0


def test_equal_networks_are_called_different_in_one_of_twenty() -> None:
    rng = np.random.default_rng(1)
    called = [compare_shares(*map(int, rng.binomial(360, 0.97, 2)), 360).different for _ in range(600)]
    assert np.mean(called) <= 0.08
