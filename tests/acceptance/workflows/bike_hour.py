"""Bicycles hired in an hour, judged on the newest 60 days."""

from sklearn.ensemble import HistGradientBoostingRegressor

import penstock as ps

bike = ps.Workflow(
    name="bike",
    data=ps.read("data/bike_hour.csv.gz", dates=["dteday"]),
    target=ps.Target("cnt", after=["casual", "registered"]),  # they add up to cnt
    time="dteday",
    drop=["instant"],  # a counter of rows
    split=ps.Split(test="60d"),
    model=HistGradientBoostingRegressor(max_iter=60, learning_rate=0.2),
    metrics=["r2"],
)
