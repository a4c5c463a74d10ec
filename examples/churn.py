import penstock as ps
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

churn = ps.Workflow(
    name="churn",
    data=ps.read("data/customers.csv"),
    target="churned",
    key="customer_id",
    model=Pipeline([
        ("preprocess", ColumnTransformer([
            ("num", StandardScaler(), ["age", "income"]),
            ("cat", OneHotEncoder(handle_unknown="ignore"), ["city", "gender"]),
        ])),
        ("model", LogisticRegression()),
    ]),
    metrics=["roc_auc", "neg_log_loss"],
    slices=["gender"],
    gate=[ps.AtLeast("roc_auc", 0.75), ps.Improves(), ps.NoWorseOn("gender")],
    monitor=ps.Monitor(labels=ps.read("data/outcomes.csv")),
)
