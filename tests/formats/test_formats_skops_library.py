"""skops is imported without all of scikit-learn, and nobody can tell by what it trusts."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest
from sklearn.utils import all_estimators

from penstock.formats.skops_library import is_public_estimator, library

NAMES = sorted(f"{kind.__module__}.{kind.__name__}" for _, kind in all_estimators())

FRESH = """
import json, sys
from penstock.formats.skops_library import library
io = library()
before = sorted({"pytest", "sklearn.cross_decomposition"} & set(sys.modules))
from sklearn.linear_model import LinearRegression
from sklearn.manifold import Isomap
untrusted = io.get_untrusted_types(data=io.dumps([LinearRegression(), Isomap()]))
again = type(io.loads(io.dumps(Isomap()))).__name__
print(json.dumps([before, untrusted, again]))
"""


def in_process(code: str) -> list:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_import_is_light_and_skops_trusts_what_it_always_does():
    before, untrusted, again = in_process(FRESH)
    assert before == []
    assert untrusted == []
    assert again == "Isomap"


def test_names_of_ufuncs_are_those_that_skops_finds_itself():
    code = """
import json, sys
import scipy.special, sklearn.linear_model
{first}
import skops.io
from skops.io import _trusted_types as t
assert sys.modules["skops"].io is sys.modules["skops.io"]
print(json.dumps([t.NUMPY_UFUNC_TYPE_NAMES, t.SCIPY_UFUNC_TYPE_NAMES, t.NUMPY_DTYPE_TYPE_NAMES]))
"""
    light = "from penstock.formats.skops_library import library; library()"
    assert in_process(code.format(first=light)) == in_process(code.format(first=""))


def test_without_a_list_that_fills_itself_skops_would_refuse_estimators():
    empty = "io = library(); import skops.io._general; skops.io._general.SKLEARN_ESTIMATOR_TYPE_NAMES = []"
    code = FRESH.replace("io = library()", empty).replace(
        "again = type(io.loads(io.dumps(Isomap()))).__name__", "again = 0"
    )
    assert "sklearn.manifold._isomap.Isomap" in in_process(code)[1]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_estimator_is_known_by_its_name(name):
    assert is_public_estimator(name)


def test_nothing_is_public_that_skops_does_not_list():
    """Names of all that loaded modules of scikit-learn have, as an archive would give them."""
    from skops.io._trusted_types import SKLEARN_INTERNAL_TYPE_NAMES

    library()
    named = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in [m for name, m in sys.modules.items() if name.startswith("sklearn") and m is not None]:
            for word, value in list(vars(module).items()):
                named.add(f"{module.__name__}.{word}")
                named.add(f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', '')}")
    assert len(named) > 1_000
    wrongly = {name for name in named if is_public_estimator(name)} - set(NAMES) - set(SKLEARN_INTERNAL_TYPE_NAMES)
    # Two that scikit-learn shows only to who asks for them by an import of `sklearn.experimental`.
    assert {name for name in wrongly if "_iterative" not in name and "_halving" not in name} == set()
