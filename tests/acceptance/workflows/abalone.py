"""The age of abalones, in rings."""

from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import penstock as ps

abalone = ps.Workflow(
    name="abalone",
    data=ps.read("data/abalone.csv"),
    target="rings",
    model=make_pipeline(
        make_column_transformer((OneHotEncoder(), ["sex"]), remainder=StandardScaler()),
        LinearRegression(),
    ),
    metrics=["r2", "neg_mean_absolute_error"],
    slices=["sex"],
)
