"""Customers who leave a telephone company."""

from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import penstock as ps

NUMBERS = ["tenure", "MonthlyCharges", "TotalCharges"]
LABELS = make_column_selector(pattern="^(?!tenure|MonthlyCharges|TotalCharges)")

telco = ps.Workflow(
    name="telco",
    data=ps.read("data/telco_churn.csv", types={"TotalCharges": "float"}),
    target="Churn",
    key="customerID",
    model=make_pipeline(
        ColumnTransformer(
            [
                ("num", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
                ("cat", OneHotEncoder(handle_unknown="ignore"), LABELS),
            ]
        ),
        LogisticRegression(max_iter=500),
    ),
    metrics=["roc_auc", "neg_log_loss"],
    slices=["Contract"],
    gate=[ps.AtLeast("roc_auc", 0.75), ps.Improves()],
)
