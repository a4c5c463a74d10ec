"""A few estimators in processes of their own; the whole of scikit-learn is tried by the script itself."""

from __future__ import annotations

import pytest

from benchmarks import reproducibility

FEW = ["DecisionTreeClassifier", "KMeans", "TSNE"]


def test_seeded_estimators_have_the_same_bytes_and_unseeded_ones_have_not(monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"plain": reproducibility.VARIANTS["plain"], "other": {**reproducibility.VARIANTS["folder, zone and day"]}}
    two["other"]["PYTHONHASHSEED"] = "2"
    monkeypatch.setattr(reproducibility, "VARIANTS", two)
    found = reproducibility.compare(40, FEW)
    assert found["same"] == ["DecisionTreeClassifier", "KMeans"], found
    assert list(found["left_out"]) == ["TSNE"]
    control = reproducibility.compare(40, FEW, seeded=False)
    assert control["differ"], "without seeds nothing differs: the comparison sees nothing"
