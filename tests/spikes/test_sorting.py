"""Whole numbers sorted in one number, or the usual way where they do not fit."""

import numpy as np
import pytest

from sensojax.spikes.sorting import by_all, order_of


@pytest.mark.parametrize("largest", [0, 5, 2**20, 2**40])  # of three columns; the last is too wide
@pytest.mark.parametrize("number", [0, 1, 500])
def test_sorting_is_what_numpy_says_whatever_fits(largest, number):
    columns = np.random.default_rng(0).integers(0, largest, (3, number), endpoint=True)
    order = np.lexsort(columns[::-1])
    for found, column in zip(by_all(*columns), columns, strict=True):
        np.testing.assert_array_equal(found, column[order])
    values = columns[0] * 2**20
    np.testing.assert_array_equal(order_of(values), np.argsort(values, kind="stable"))
