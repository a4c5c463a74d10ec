"""The types that estimators may hold: exact names, per library, reviewed one by one.

skops itself accepts scikit-learn's public estimators, numpy's dtypes and ufuncs and plain containers. The names here
are what fitted pipelines hold besides. *Functions are listed one by one, never by module*: `functools.partial` calls
what it wraps, so it is safe only while every function here is. Names are private and move between versions of their
libraries: a test fits pipelines that reach them and fails on a name that is not listed.

Tree, TreePredictor and KDTree hold indices that compiled code follows without checks: trusting them says that a
file with the right digest was written by a worker of this project, not that any file is harmless.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

TRUSTED: dict[str, frozenset[str]] = {
    "python": frozenset({"builtins.frozenset", "collections.OrderedDict", "functools.partial"}),
    "numpy": frozenset({"numpy.dtype"}),
    "scipy": frozenset(
        {
            "scipy._lib.array_api_compat.numpy._aliases.asarray",  # SplineTransformer
            "scipy.interpolate._bsplines.BSpline",
            "scipy.stats._continuous_distns.reciprocal_gen",  # loguniform, in a search
            "scipy.stats._distn_infrastructure.rv_continuous_frozen",
        }
    ),
    "scikit-learn": frozenset(
        {
            "sklearn.calibration._CalibratedClassifier",
            "sklearn.calibration._SigmoidCalibration",
            "sklearn.compose._column_transformer.make_column_selector",
            "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
            "sklearn.feature_selection._univariate_selection.f_classif",
            "sklearn.impute._iterative._ImputerTriplet",
            "sklearn.metrics._classification.balanced_accuracy_score",
            "sklearn.metrics._dist_metrics.EuclideanDistance64",
            "sklearn.metrics._ranking.roc_auc_score",
            "sklearn.metrics._scorer._CurveScorer",
            "sklearn.metrics._scorer._PassthroughScorer",
            "sklearn.metrics._scorer._Scorer",
            "sklearn.model_selection._split.StratifiedKFold",
            "sklearn.neighbors._kd_tree.KDTree",
            "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
            "sklearn.tree._tree.Tree",
            "sklearn.utils._bunch.Bunch",
            "sklearn.utils._metadata_requests.MetadataRequest",
            "sklearn.utils._metadata_requests.MethodMetadataRequest",
            "sklearn.utils.validation.check_array",  # HistGradientBoosting, categorical_features="from_dtype"
        }
    ),
    "xgboost": frozenset({"xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"}),
    "lightgbm": frozenset({"lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier"}),
    "catboost": frozenset({"catboost.core.CatBoostClassifier"}),
}
"""Library → names met in its fitted estimators (scikit-learn 1.9, scipy 1.17, numpy 2.4)."""

KNOWN: frozenset[str] = frozenset().union(*TRUSTED.values())
"""All of them."""


def names_of(modules: Iterable[str]) -> frozenset[str]:
    """Classes and functions that the given, already imported modules define: what `project_types` wants.

    Names that a module merely imported are left out; a module that is not imported has none.

    Examples
    --------
    >>> "penstock.formats.trust.names_of" in names_of(["penstock.formats.trust"])
    True
    """
    found = set()
    for name in modules:
        for word, value in list(vars(sys.modules.get(name, object())).items() if name in sys.modules else ()):
            if (
                callable(value)
                and getattr(value, "__module__", None) == name
                and getattr(value, "__name__", "") == word
            ):
                found.add(f"{name}.{word}")
    return frozenset(found)
