"""One row that makes up much of the variance: seldom where tails are light, mostly where they are heavy."""

import numpy as np
import pytest

from penstock.stats.intervals import HEAVY, largest_share


@pytest.mark.parametrize(("n", "normal", "laplace"), [(300, 0.10, 0.60), (3000, 0.01, 0.08)])
def test_heavy_tails_of_squared_errors_are_told_from_light_ones(n, normal, laplace):
    draws = {"normal": [], "laplace": [], "t3": [], "lognormal": []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        laws = {"normal": rng.normal(size=n), "laplace": rng.laplace(size=n), "t3": rng.standard_t(3, n)}
        for law, errors in (laws | {"lognormal": rng.lognormal(size=n)}).items():
            draws[law].append(largest_share(errors**2) > HEAVY)
    flagged = {law: float(np.mean(found)) for law, found in draws.items()}
    assert flagged["normal"] <= normal
    assert flagged["laplace"] <= laplace
    assert min(flagged["t3"], flagged["lognormal"]) >= 0.55


def test_what_does_not_vary_or_is_no_number_has_no_share():
    assert largest_share([2.0, 2.0]) == 0.0
    assert largest_share([1.0, np.nan]) == 0.0
    assert largest_share([]) == 0.0
