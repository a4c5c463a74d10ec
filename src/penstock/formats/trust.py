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
    "numpy": frozenset({"numpy.dtype", "numpy.number"}),  # the second: make_column_selector(dtype_include=np.number)
    "scipy": frozenset(
        {
            "scipy._lib.array_api_compat.numpy._aliases.asarray",  # SplineTransformer
            "scipy.interpolate._bsplines.BSpline",
            "scipy.sparse._csc.csc_array",
            "scipy.sparse._csc.csc_matrix",
            "scipy.sparse._csr.csr_array",
            "scipy.sparse._csr.csr_matrix",
            "scipy.stats._continuous_distns.expon_gen",  # this and the next six: what a search draws from
            "scipy.stats._continuous_distns.norm_gen",
            "scipy.stats._continuous_distns.reciprocal_gen",
            "scipy.stats._continuous_distns.uniform_gen",
            "scipy.stats._discrete_distns.randint_gen",
            "scipy.stats._distn_infrastructure.rv_continuous_frozen",
            "scipy.stats._distn_infrastructure.rv_discrete_frozen",
        }
    ),
    "scikit-learn": frozenset(
        {
            "sklearn._loss.loss.HalfTweedieLoss",
            "sklearn._loss.loss.HalfTweedieLossIdentity",
            "sklearn.calibration._CalibratedClassifier",
            "sklearn.calibration._SigmoidCalibration",
            "sklearn.calibration._TemperatureScaling",
            "sklearn.compose._column_transformer.make_column_selector",
            "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
            "sklearn.feature_selection._mutual_info.mutual_info_classif",
            "sklearn.feature_selection._mutual_info.mutual_info_regression",
            "sklearn.feature_selection._univariate_selection.chi2",
            "sklearn.feature_selection._univariate_selection.f_classif",
            "sklearn.feature_selection._univariate_selection.f_regression",
            "sklearn.gaussian_process.kernels.CompoundKernel",
            "sklearn.gaussian_process.kernels.ConstantKernel",
            "sklearn.gaussian_process.kernels.DotProduct",
            "sklearn.gaussian_process.kernels.ExpSineSquared",
            "sklearn.gaussian_process.kernels.Exponentiation",
            "sklearn.gaussian_process.kernels.Matern",
            "sklearn.gaussian_process.kernels.PairwiseKernel",
            "sklearn.gaussian_process.kernels.Product",
            "sklearn.gaussian_process.kernels.RBF",
            "sklearn.gaussian_process.kernels.RationalQuadratic",
            "sklearn.gaussian_process.kernels.Sum",
            "sklearn.gaussian_process.kernels.WhiteKernel",
            "sklearn.impute._iterative.IterativeImputer",  # experimental, so not in skops' own list
            "sklearn.impute._iterative._ImputerTriplet",
            "sklearn.metrics._classification.accuracy_score",
            "sklearn.metrics._classification.balanced_accuracy_score",
            "sklearn.metrics._classification.brier_score_loss",
            "sklearn.metrics._classification.d2_brier_score",
            "sklearn.metrics._classification.d2_log_loss_score",
            "sklearn.metrics._classification.f1_score",
            "sklearn.metrics._classification.jaccard_score",
            "sklearn.metrics._classification.log_loss",
            "sklearn.metrics._classification.matthews_corrcoef",
            "sklearn.metrics._classification.precision_score",
            "sklearn.metrics._classification.recall_score",
            "sklearn.metrics._dist_metrics.ChebyshevDistance64",
            "sklearn.metrics._dist_metrics.EuclideanDistance64",
            "sklearn.metrics._dist_metrics.ManhattanDistance64",
            "sklearn.metrics._dist_metrics.MinkowskiDistance64",
            "sklearn.metrics._ranking.average_precision_score",
            "sklearn.metrics._ranking.roc_auc_score",
            "sklearn.metrics._ranking.top_k_accuracy_score",
            "sklearn.metrics._regression.d2_absolute_error_score",
            "sklearn.metrics._regression.explained_variance_score",
            "sklearn.metrics._regression.max_error",
            "sklearn.metrics._regression.mean_absolute_error",
            "sklearn.metrics._regression.mean_absolute_percentage_error",
            "sklearn.metrics._regression.mean_gamma_deviance",
            "sklearn.metrics._regression.mean_poisson_deviance",
            "sklearn.metrics._regression.mean_squared_error",
            "sklearn.metrics._regression.mean_squared_log_error",
            "sklearn.metrics._regression.median_absolute_error",
            "sklearn.metrics._regression.r2_score",
            "sklearn.metrics._regression.root_mean_squared_error",
            "sklearn.metrics._regression.root_mean_squared_log_error",
            "sklearn.metrics._scorer._CurveScorer",
            "sklearn.metrics._scorer._MultimetricScorer",
            "sklearn.metrics._scorer._PassthroughScorer",
            "sklearn.metrics._scorer._Scorer",
            "sklearn.metrics._scorer.negative_likelihood_ratio",
            "sklearn.metrics._scorer.positive_likelihood_ratio",
            "sklearn.metrics.cluster._supervised.adjusted_mutual_info_score",
            "sklearn.metrics.cluster._supervised.adjusted_rand_score",
            "sklearn.metrics.cluster._supervised.completeness_score",
            "sklearn.metrics.cluster._supervised.fowlkes_mallows_score",
            "sklearn.metrics.cluster._supervised.homogeneity_score",
            "sklearn.metrics.cluster._supervised.mutual_info_score",
            "sklearn.metrics.cluster._supervised.normalized_mutual_info_score",
            "sklearn.metrics.cluster._supervised.rand_score",
            "sklearn.metrics.cluster._supervised.v_measure_score",
            "sklearn.model_selection._split.GroupKFold",
            "sklearn.model_selection._split._CVIterableWrapper",
            "sklearn.model_selection._split.GroupShuffleSplit",
            "sklearn.model_selection._split.KFold",
            "sklearn.model_selection._split.LeaveOneGroupOut",
            "sklearn.model_selection._split.LeaveOneOut",
            "sklearn.model_selection._split.PredefinedSplit",
            "sklearn.model_selection._split.RepeatedKFold",
            "sklearn.model_selection._split.RepeatedStratifiedKFold",
            "sklearn.model_selection._split.ShuffleSplit",
            "sklearn.model_selection._split.StratifiedGroupKFold",
            "sklearn.model_selection._split.StratifiedKFold",
            "sklearn.model_selection._split.StratifiedShuffleSplit",
            "sklearn.model_selection._split.TimeSeriesSplit",
            "sklearn.model_selection._search_successive_halving.HalvingGridSearchCV",  # experimental too
            "sklearn.model_selection._search_successive_halving.HalvingRandomSearchCV",
            "sklearn.neighbors._ball_tree.BallTree",
            "sklearn.neighbors._kd_tree.KDTree",
            "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
            "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
            "sklearn.tree._tree.Tree",
            "sklearn.utils._bunch.Bunch",
            "sklearn.utils._metadata_requests.MetadataRequest",
            "sklearn.utils._metadata_requests.MethodMetadataRequest",
            "sklearn.utils.validation.check_array",  # HistGradientBoosting, categorical_features="from_dtype"
        }
    ),
    "xgboost": frozenset(
        {
            "xgboost.core.Booster",
            "xgboost.sklearn.XGBClassifier",
            "xgboost.sklearn.XGBRFClassifier",
            "xgboost.sklearn.XGBRFRegressor",
            "xgboost.sklearn.XGBRegressor",
        }
    ),
    "lightgbm": frozenset(
        {"lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier", "lightgbm.sklearn.LGBMRegressor"}
    ),
    "catboost": frozenset({"catboost.core.CatBoostClassifier", "catboost.core.CatBoostRegressor"}),
    "imbalanced-learn": frozenset(
        {
            "imblearn.combine._smote_enn.SMOTEENN",
            "imblearn.combine._smote_tomek.SMOTETomek",
            "imblearn.ensemble._bagging.BalancedBaggingClassifier",
            "imblearn.ensemble._easy_ensemble.EasyEnsembleClassifier",
            "imblearn.ensemble._forest.BalancedRandomForestClassifier",
            "imblearn.ensemble._weight_boosting.RUSBoostClassifier",
            "imblearn.over_sampling._random_over_sampler.RandomOverSampler",
            "imblearn.over_sampling._smote.base.SMOTE",
            "imblearn.over_sampling._smote.base.SMOTENC",
            "imblearn.over_sampling._smote.filter.BorderlineSMOTE",
            "imblearn.pipeline.Pipeline",
            "imblearn.under_sampling._prototype_selection._edited_nearest_neighbours.EditedNearestNeighbours",
            "imblearn.under_sampling._prototype_selection._nearmiss.NearMiss",
            "imblearn.under_sampling._prototype_selection._random_under_sampler.RandomUnderSampler",
            "imblearn.under_sampling._prototype_selection._tomek_links.TomekLinks",
        }
    ),
    "skrub": frozenset(
        {
            "skrub._apply_to_cols.ApplyToCols",
            "skrub._apply_to_each_col.ApplyToEachCol",
            "skrub._check_input.CheckInputDataFrame",
            "skrub._clean_categories.CleanCategories",
            "skrub._clean_null_strings.CleanNullStrings",
            "skrub._dataframe._common.is_any_date",
            "skrub._dataframe._common.is_categorical",
            "skrub._dataframe._common.is_numeric",
            "skrub._datetime_encoder.DatetimeEncoder",
            "skrub._datetime_encoder._SplineEncoder",
            "skrub._drop_uninformative.DropUninformative",
            "skrub._duration_to_float.DurationToFloat",
            "skrub._gap_encoder.GapEncoder",
            "skrub._minhash_encoder.MinHashEncoder",
            "skrub._select_cols.DropCols",
            "skrub._select_cols.SelectCols",
            "skrub._squashing_scaler.SquashingScaler",
            "skrub._squashing_scaler._MinMaxScaler",
            "skrub._string_encoder.StringEncoder",
            "skrub._table_vectorizer.Cleaner",
            "skrub._table_vectorizer.PassThrough",
            "skrub._table_vectorizer.ShortReprDict",
            "skrub._table_vectorizer.TableVectorizer",
            "skrub._table_vectorizer._created_by_predicate",
            "skrub._to_categorical.ToCategorical",
            "skrub._to_datetime.ToDatetime",
            "skrub._to_float.ToFloat",
            "skrub._to_str.ToStr",
            "skrub._utils.LRUDict",
            "skrub.selectors._base.All",
            "skrub.selectors._base.And",
            "skrub.selectors._base.Cols",
            "skrub.selectors._base.Filter",
            "skrub.selectors._base.Sub",
            "skrub.selectors._selectors._cardinality_below",
        }
    ),
}
"""Library → names met in its fitted estimators (scikit-learn 1.9, scipy 1.17, numpy 2.4, XGBoost 3.2, LightGBM 4.7,
CatBoost 1.2.10, imbalanced-learn 0.14, skrub 0.11), held by the tests."""

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
