"""A catalogue of fitted pipelines, and a script that dumps them all: `fitted_pipelines.py OUT [BEFORE]`.

The script fits and dumps every pipeline. With BEFORE (the folder of an earlier run) it goes in reverse order, loads
that run's files, and says whether they predict and dump the same here. What it found is in OUT/found.json.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import imblearn.pipeline
import numpy as np
import pandas as pd
import skops.io
import skrub
from catboost import CatBoostClassifier, CatBoostRegressor
from imblearn.combine import SMOTEENN, SMOTETomek
from imblearn.ensemble import (
    BalancedBaggingClassifier,
    BalancedRandomForestClassifier,
    EasyEnsembleClassifier,
    RUSBoostClassifier,
)
from imblearn.over_sampling import SMOTE, SMOTENC, BorderlineSMOTE, RandomOverSampler
from imblearn.under_sampling import NearMiss, RandomUnderSampler, TomekLinks
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, KernelPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import (
    RFE,
    SelectFromModel,
    SelectKBest,
    VarianceThreshold,
    chi2,
    f_regression,
    mutual_info_regression,
)
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PoissonRegressor,
    QuantileRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

from penstock.formats import skops as canonical
from penstock.formats.neutral import neutral_copy

ROWS = 90
NUMBERS = ["age", "income", "visits"]
WORDS = ["city", "gender"]

NOT_EQUAL: dict[str, str] = {}
"""Pipelines whose bytes differ between processes, each with the reason. Empty: all are equal."""


def table() -> pd.DataFrame:
    """Ninety rows with numbers, gaps, words and a text."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, ROWS).astype(float),
            "income": rng.lognormal(10, 1, ROWS),
            "visits": rng.poisson(3, ROWS).astype(float),
            "city": rng.choice(["Oslo", "Rome", "Lima"], ROWS),
            "gender": rng.choice(["f", "m"], ROWS),
            "note": rng.choice(["good and cheap", "bad service", "the best", "never again bad"], ROWS),
        }
    )
    frame.loc[::9, "income"] = np.nan
    return frame


def labels(frame: pd.DataFrame) -> np.ndarray:
    return (frame["age"] + 5 * frame["visits"] + (frame["city"] == "Oslo") * 9 > 63).astype(int).to_numpy()


def prepared(*numeric, words=None) -> ColumnTransformer:
    steps = numeric or (SimpleImputer(), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore") if words is None else words
    return ColumnTransformer([("num", make_pipeline(*steps), NUMBERS), ("cat", encoder, WORDS)])


def classify(model, *numeric, words=None) -> Pipeline:
    return Pipeline([("preprocess", prepared(*numeric, words=words)), ("model", model)])


def dense(model) -> Pipeline:
    return classify(model, words=OneHotEncoder(sparse_output=False))


def categories(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({"city": "category", "gender": "category"})[NUMBERS + WORDS]


def by_dtype() -> Pipeline:
    return Pipeline(
        [("model", HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=5, random_state=0))]
    )


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=500)


def tree() -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_depth=3, random_state=0)


GRID = {"model__C": [0.1, 1.0]}

CLASSIFIERS = {
    "logistic": lambda: classify(logistic()),
    "logistic_cv": lambda: classify(
        LogisticRegressionCV(
            Cs=2, cv=3, max_iter=500, use_legacy_attributes=False, l1_ratios=(0,), scoring="neg_log_loss"
        )
    ),
    "ridge_classifier": lambda: classify(RidgeClassifier()),
    "sgd_hinge": lambda: classify(SGDClassifier(random_state=0)),
    "sgd_huber": lambda: classify(SGDClassifier(loss="modified_huber", random_state=0)),
    "linear_svc": lambda: classify(LinearSVC(random_state=0)),
    "svc": lambda: classify(SVC(random_state=0)),
    "gaussian_nb": lambda: dense(GaussianNB()),
    "bernoulli_nb": lambda: dense(BernoulliNB()),
    "knn_tree": lambda: dense(KNeighborsClassifier(algorithm="kd_tree")),
    "knn_ball": lambda: dense(KNeighborsClassifier(algorithm="ball_tree")),
    "knn_brute": lambda: classify(KNeighborsClassifier(algorithm="brute")),
    "nearest_centroid": lambda: dense(NearestCentroid()),
    "tree": lambda: classify(tree()),
    "forest": lambda: classify(RandomForestClassifier(4, random_state=0)),
    "forest_jobs": lambda: classify(RandomForestClassifier(4, random_state=0, n_jobs=2, verbose=0)),
    "extra_trees": lambda: classify(ExtraTreesClassifier(4, random_state=0)),
    "boosting": lambda: classify(GradientBoostingClassifier(n_estimators=4, random_state=0)),
    "hist": lambda: dense(HistGradientBoostingClassifier(max_iter=5, random_state=0)),
    "hist_from_dtype": by_dtype,
    "adaboost": lambda: classify(AdaBoostClassifier(n_estimators=4, random_state=0)),
    "bagging": lambda: classify(BaggingClassifier(n_estimators=3, random_state=0)),
    "voting": lambda: classify(VotingClassifier([("a", logistic()), ("b", tree())], voting="soft")),
    "stacking": lambda: classify(StackingClassifier([("a", logistic()), ("b", tree())], cv=2)),
    "calibrated_sigmoid": lambda: classify(CalibratedClassifierCV(LinearSVC(random_state=0), cv=2)),
    "calibrated_isotonic": lambda: classify(CalibratedClassifierCV(tree(), method="isotonic", cv=2)),
    "mlp": lambda: dense(MLPClassifier((4,), max_iter=3000, random_state=0)),
    "mlp_sgd": lambda: dense(MLPClassifier((3,), solver="sgd", tol=0.1, max_iter=500, random_state=0)),
    "lda": lambda: dense(LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1)),
    "qda": lambda: dense(QuadraticDiscriminantAnalysis(reg_param=0.5)),
    "dummy": lambda: classify(DummyClassifier()),
    "one_vs_rest": lambda: classify(OneVsRestClassifier(logistic())),
    "grid_search": lambda: GridSearchCV(classify(logistic()), GRID, cv=2, n_jobs=1),
    "random_search": lambda: RandomizedSearchCV(
        classify(logistic()), {"model__C": loguniform()}, n_iter=2, cv=2, random_state=0, scoring="roc_auc"
    ),
    "halving_search": lambda: HalvingGridSearchCV(classify(logistic()), GRID, cv=2, random_state=0),
    "search_inside": lambda: classify(GridSearchCV(logistic(), {"C": [0.1, 1.0]}, cv=2)),
    "tuned_threshold": lambda: TunedThresholdClassifierCV(classify(logistic()), cv=2, thresholds=5),
    "fixed_threshold": lambda: FixedThresholdClassifier(classify(logistic()), threshold=0.4),
    "spline": lambda: classify(logistic(), SimpleImputer(), SplineTransformer(n_knots=3)),
    "polynomial": lambda: classify(logistic(), SimpleImputer(), StandardScaler(), PolynomialFeatures()),
    "bins": lambda: classify(logistic(), SimpleImputer(), KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf")),
    "quantiles": lambda: classify(logistic(), SimpleImputer(), QuantileTransformer(n_quantiles=9, random_state=0)),
    "power": lambda: classify(logistic(), SimpleImputer(), PowerTransformer()),
    "robust": lambda: classify(logistic(), SimpleImputer(strategy="median", add_indicator=True), RobustScaler()),
    "ordinal": lambda: classify(logistic(), words=OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
    "target_encoder": lambda: classify(logistic(), words=TargetEncoder(cv=KFold(2))),
    "rare_categories": lambda: classify(logistic(), words=OneHotEncoder(min_frequency=0.4, handle_unknown="ignore")),
    "iterative_imputer": lambda: classify(logistic(), IterativeImputer(max_iter=30, random_state=0), StandardScaler()),
    "knn_imputer": lambda: classify(logistic(), KNNImputer(), StandardScaler()),
    "selected_columns": lambda: make_pipeline(
        ColumnTransformer([("num", SimpleImputer(), make_column_selector(dtype_include=np.number))]), tree()
    ),
    "select_k_best": lambda: make_pipeline(prepared(), SelectKBest(k=3), logistic()),
    "rfe": lambda: make_pipeline(prepared(), RFE(logistic(), n_features_to_select=3), logistic()),
    "select_from_model": lambda: make_pipeline(prepared(), SelectFromModel(tree()), logistic()),
    "variance": lambda: make_pipeline(prepared(), VarianceThreshold(), logistic()),
    "pca": lambda: make_pipeline(prepared(words="drop"), PCA(2), logistic()),
    "svd": lambda: make_pipeline(prepared(), TruncatedSVD(2, random_state=0), logistic()),
    "nystroem": lambda: make_pipeline(prepared(), Nystroem(n_components=5, random_state=0), logistic()),
    "union": lambda: make_pipeline(
        prepared(words="drop"), FeatureUnion([("pca", PCA(2)), ("scale", MinMaxScaler())]), logistic()
    ),
    "log1p": lambda: classify(logistic(), SimpleImputer(), FunctionTransformer(np.log1p), StandardScaler()),
    "count_words": lambda: text(CountVectorizer(stop_words="english")),
    "tfidf": lambda: text(TfidfVectorizer(ngram_range=(1, 2))),
    "tfidf_stop_list": lambda: text(TfidfVectorizer(stop_words=["the", "and"])),
    "hashing": lambda: text(HashingVectorizer(n_features=16)),
    "frozen": lambda: make_pipeline(FrozenEstimator(prepared().fit(table(), labels(table()))), logistic()),
    "knn_manhattan": lambda: dense(KNeighborsClassifier(algorithm="kd_tree", p=1)),
    "knn_minkowski": lambda: dense(KNeighborsClassifier(algorithm="ball_tree", p=3)),
    "calibrated_temperature": lambda: classify(CalibratedClassifierCV(logistic(), method="temperature", cv=2)),
    "nu_svc": lambda: classify(NuSVC(nu=0.2, random_state=0)),
    "one_vs_one": lambda: classify(OneVsOneClassifier(logistic())),
    "chi2": lambda: make_pipeline(prepared(SimpleImputer(), MinMaxScaler()), SelectKBest(chi2, k=3), logistic()),
    "kmeans": lambda: make_pipeline(prepared(), KMeans(3, random_state=0, n_init=1), logistic()),
    "kernel_pca": lambda: make_pipeline(prepared(words="drop"), KernelPCA(2, kernel="rbf", random_state=0), logistic()),
    "grid_f1_folds": lambda: GridSearchCV(classify(logistic()), GRID, cv=KFold(2), scoring="f1"),
    "grid_two_scores": lambda: GridSearchCV(
        classify(logistic()), GRID, cv=2, scoring=["accuracy", "neg_log_loss"], refit="accuracy"
    ),
    "random_search_ints": lambda: RandomizedSearchCV(
        classify(tree()), {"model__max_depth": integers()}, n_iter=2, cv=2, random_state=0
    ),
    "isolation": lambda: classify(IsolationForest(n_estimators=3, random_state=0)),
}

REGRESSORS = {
    "linear": lambda: classify(LinearRegression()),
    "ridge": lambda: classify(Ridge(solver="cholesky")),
    "lasso": lambda: classify(Lasso(alpha=0.5)),
    "elastic_net_cv": lambda: classify(ElasticNetCV(alphas=3, cv=2, random_state=0)),
    "huber": lambda: classify(HuberRegressor(max_iter=2000)),
    "bayesian": lambda: dense(BayesianRidge()),
    "quantile": lambda: classify(QuantileRegressor(alpha=0.1)),
    "poisson": lambda: classify(PoissonRegressor(max_iter=1000)),
    "forest_regressor": lambda: classify(RandomForestRegressor(3, random_state=0)),
    "boosting_regressor": lambda: classify(GradientBoostingRegressor(loss="huber", n_estimators=3, random_state=0)),
    "hist_poisson": lambda: dense(HistGradientBoostingRegressor(loss="poisson", max_iter=4, random_state=0)),
    "svr": lambda: classify(SVR()),
    "knn_regressor": lambda: dense(KNeighborsRegressor()),
    "voting_regressor": lambda: classify(VotingRegressor([("a", Ridge()), ("b", LinearRegression())])),
    "log_target": lambda: TransformedTargetRegressor(classify(Ridge()), func=np.log1p, inverse_func=np.expm1),
    "hist_quantile": lambda: dense(
        HistGradientBoostingRegressor(loss="quantile", quantile=0.5, max_iter=3, random_state=0)
    ),
    "hist_gamma": lambda: dense(HistGradientBoostingRegressor(loss="gamma", max_iter=3, random_state=0)),
    "gamma": lambda: classify(GammaRegressor(max_iter=1000)),
    "tweedie": lambda: classify(TweedieRegressor(power=1.5, max_iter=1000)),
    "kernel_ridge": lambda: classify(KernelRidge()),
    "pls": lambda: dense(PLSRegression(2)),
    "ransac": lambda: classify(RANSACRegressor(random_state=0)),
    "adaboost_regressor": lambda: classify(AdaBoostRegressor(n_estimators=2, random_state=0)),
    "stacking_regressor": lambda: classify(StackingRegressor([("a", Ridge()), ("b", Lasso())], cv=2)),
    "f_regression": lambda: make_pipeline(prepared(), SelectKBest(f_regression, k=3), Ridge()),
    "mutual_information": lambda: make_pipeline(prepared(), SelectKBest(mutual_info_regression, k=4), Ridge()),
    "multi_output": lambda: dense(MultiOutputRegressor(Ridge())),
    "gaussian_process": lambda: dense(GaussianProcessRegressor(random_state=0, optimizer=None)),
}


def boosted(model) -> Pipeline:
    return classify(model, words=OrdinalEncoder())


def cat(kind, **params):
    return kind(iterations=5, verbose=0, thread_count=1, random_seed=0, allow_writing_files=False, **params)


def sampled(sampler) -> object:
    return imblearn.pipeline.make_pipeline(prepared(), sampler, logistic())


def sampled_ensemble(model) -> Pipeline:
    return classify(model, words="drop")


def vectorized(encoder=None, model=None) -> Pipeline:
    more = {} if encoder is None else {"high_cardinality": encoder, "cardinality_threshold": 4}
    return make_pipeline(skrub.TableVectorizer(**more), SimpleImputer(), StandardScaler(), model or logistic())


CLASSIFIERS |= {
    "xgboost": lambda: boosted(XGBClassifier(n_estimators=4, n_jobs=1)),
    "xgboost_forest": lambda: boosted(XGBRFClassifier(n_estimators=4, n_jobs=1)),
    "lightgbm": lambda: boosted(LGBMClassifier(n_estimators=4, n_jobs=1, verbose=-1)),
    "catboost": lambda: boosted(cat(CatBoostClassifier)),
    "catboost_words": lambda: make_pipeline(
        ColumnTransformer([("keep", "passthrough", [*NUMBERS, *WORDS])], verbose_feature_names_out=False).set_output(
            transform="pandas"
        ),
        cat(CatBoostClassifier, cat_features=WORDS),
    ),
    "smote": lambda: sampled(SMOTE(random_state=0)),
    "border_smote": lambda: sampled(BorderlineSMOTE(random_state=0)),
    "smote_tomek": lambda: sampled(SMOTETomek(random_state=0)),
    "smote_enn": lambda: sampled(SMOTEENN(random_state=0)),
    "smote_words": lambda: imblearn.pipeline.make_pipeline(
        ColumnTransformer([("num", SimpleImputer(), NUMBERS), ("cat", "passthrough", WORDS)]),
        SMOTENC(categorical_features=[3, 4], random_state=0),
        OneHotEncoder(handle_unknown="ignore"),
        logistic(),
    ),
    "under_sampling": lambda: sampled(RandomUnderSampler(random_state=0)),
    "over_sampling": lambda: sampled(RandomOverSampler(random_state=0)),
    "tomek": lambda: sampled(TomekLinks()),
    "near_miss": lambda: sampled(NearMiss()),
    "balanced_forest": lambda: sampled_ensemble(BalancedRandomForestClassifier(3, random_state=0)),
    "balanced_bagging": lambda: sampled_ensemble(BalancedBaggingClassifier(n_estimators=2, random_state=0)),
    "easy_ensemble": lambda: sampled_ensemble(EasyEnsembleClassifier(n_estimators=2, random_state=0)),
    "rus_boost": lambda: sampled_ensemble(RUSBoostClassifier(n_estimators=2, random_state=0)),
    "skrub": vectorized,
    "skrub_gap": lambda: vectorized(skrub.GapEncoder(2, random_state=0)),
    "skrub_strings": lambda: vectorized(skrub.StringEncoder(2, random_state=0)),
    "skrub_tabular": lambda: skrub.tabular_pipeline("classifier").set_params(
        histgradientboostingclassifier__random_state=0
    ),
    "skrub_tabular_linear": lambda: skrub.tabular_pipeline(logistic()),
    "skrub_columns": lambda: make_pipeline(
        skrub.DropCols(["gender"]),
        skrub.ApplyToCols(skrub.MinHashEncoder(n_components=3), cols=["note", "city"]),
        skrub.SelectCols(["age", "visits"]),
        skrub.SquashingScaler(),
        logistic(),
    ),
    "skrub_cleaner": lambda: make_pipeline(skrub.Cleaner(), skrub.SelectCols(["age", "visits"]), logistic()),
}
REGRESSORS |= {
    "xgboost_regressor": lambda: boosted(XGBRegressor(n_estimators=4, n_jobs=1)),
    "xgboost_forest_regressor": lambda: boosted(XGBRFRegressor(n_estimators=4, n_jobs=1)),
    "lightgbm_regressor": lambda: boosted(LGBMRegressor(n_estimators=4, n_jobs=1, verbose=-1)),
    "catboost_regressor": lambda: boosted(cat(CatBoostRegressor)),
}
"""Other libraries' estimators at the locked versions."""


def text(vectorizer) -> Pipeline:
    return make_pipeline(ColumnTransformer([("note", vectorizer, "note")]), logistic())


def loguniform():
    from scipy.stats import loguniform

    return loguniform(0.01, 1.0)


def integers():
    from scipy.stats import randint

    return randint(1, 4)


def data_for(name: str) -> pd.DataFrame:
    return categories(table()) if name == "hist_from_dtype" else table()


def fitted(name: str):
    """A freshly fitted pipeline of the catalogue."""
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]().fit(data_for(name), labels(table()))
    target = 2 * table()["age"] + table()["visits"]
    if name == "multi_output":
        target = np.column_stack([target, table()["visits"]])
    return REGRESSORS[name]().fit(data_for(name), target)


def answers(name: str, model) -> list:
    method = model.predict_proba if hasattr(model, "predict_proba") else model.predict
    return method(data_for(name)).tolist()


NAMES = [*CLASSIFIERS, *REGRESSORS]
RAW_TOO = ("logistic", "forest", "hist", "grid_search", "tfidf")
"""Pipelines that are also dumped as skops does it, to show that the check can fail."""


def dump_all(out: Path, before: Path | None) -> dict[str, dict]:
    found = {}
    for name in reversed(NAMES) if before else NAMES:
        np.random.seed(0)  # as workers do: mutual information draws from numpy's global generator
        model = fitted(name)
        data = canonical.dumps_canonical(model)
        row = {"digest": hashlib.sha256(data).hexdigest()}
        if name in RAW_TOO:
            row["raw"] = hashlib.sha256(skops.io.dumps(neutral_copy(model))).hexdigest()
        if before:
            theirs = (before / f"{name}.skops").read_bytes()
            loaded = canonical.loads(theirs)
            row["dump_same"] = canonical.dumps_canonical(loaded) == theirs
            row["answers_same"] = answers(name, loaded) == json.loads((before / f"{name}.json").read_text())
        else:
            (out / f"{name}.skops").write_bytes(data)
            (out / f"{name}.json").write_text(json.dumps(answers(name, model)))
            row["untrusted"] = canonical.untrusted_in(data)
        found[name] = row
    return found


if __name__ == "__main__":
    target, *earlier = (Path(word) for word in sys.argv[1:])
    rows = dump_all(target, earlier[0] if earlier else None)
    (target / "found.json").write_text(json.dumps(rows))
