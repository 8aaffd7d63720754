"""Factors of what training leaves out."""

import jax
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.models import dropping


def test_factors_leave_out_at_their_rate_and_keep_the_mean():
    rates = (0.0, 0.25, 0.8)
    found = np.asarray(dropping.factors(jax.random.key(0), rates, (20_000, 3)))
    for column, rate in zip(found.T, rates, strict=True):
        np.testing.assert_allclose(column[column != 0], 1 / (1 - rate), rtol=1e-6)
        assert np.mean(column == 0) == pytest.approx(rate, abs=0.01)
        assert column.mean() == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(UserError, match=f"found core.drop_path {rate}, expected at least 0"):
        dropping.check(rate, "core.drop_path")
