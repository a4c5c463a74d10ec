"""Learns which payments are fraud."""

from fraud.features import AmountRatio, Vote, log_all
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import penstock as ps

fraud = ps.Workflow(
    name="fraud",
    data=ps.read("payments.csv"),
    target="fraud",
    key="id",
    model=make_pipeline(AmountRatio(), FunctionTransformer(log_all), Vote()),
)
