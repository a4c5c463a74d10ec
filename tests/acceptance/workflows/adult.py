"""Income above 50,000 dollars, by the census of 1994."""

from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import penstock as ps

NUMBERS = ["age", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
LABELS = ["workclass", "marital_status", "occupation", "relationship", "race", "sex", "native_country"]

adult = ps.Workflow(
    name="adult",
    data=ps.read("data/adult_train.csv.gz", na=["?"]),
    target=ps.Target("income", positive=">50K"),
    drop=["fnlwgt", "education"],  # a sampling weight; education_num in words
    model=Pipeline(
        [
            (
                "preprocess",
                ColumnTransformer(
                    [
                        ("num", StandardScaler(), NUMBERS),
                        ("cat", OneHotEncoder(handle_unknown="ignore"), LABELS),
                    ]
                ),
            ),
            ("model", LogisticRegression(max_iter=500)),
        ]
    ),
    metrics=["roc_auc", "neg_log_loss"],
    slices=["sex"],
    gate=[ps.AtLeast("roc_auc", 0.85), ps.Improves(), ps.NoWorseOn("sex")],
)
