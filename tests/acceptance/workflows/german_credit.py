"""Bad credit risks: class 2 of classes 1 and 2."""

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import penstock as ps

german = ps.Workflow(
    name="german",
    data=ps.read("data/german_credit_uci.csv"),
    target=ps.Target("class", positive=2),
    model=make_pipeline(
        make_column_transformer(
            (StandardScaler(), make_column_selector(dtype_include="number")),
            (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
        ),
        LogisticRegression(C=0.3, max_iter=500),
    ),
    metrics=["roc_auc"],
)
