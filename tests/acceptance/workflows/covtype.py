"""Seven kinds of forest."""

from sklearn.ensemble import HistGradientBoostingClassifier

import penstock as ps

covtype = ps.Workflow(
    name="covtype",
    data=ps.read("data/covtype_sample.csv.gz"),
    target="Cover_Type",
    drop=["Soil_Type"],  # once more what the 40 columns say
    model=HistGradientBoostingClassifier(max_iter=15, learning_rate=0.3, max_leaf_nodes=15),
    metrics=["accuracy"],
    gate=[ps.AtLeast("accuracy", 0.6), ps.Improves()],
)
