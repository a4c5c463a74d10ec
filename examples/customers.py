"""A seeded generator of customers: who they are, and whether they left."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

COLUMNS = ("customer_id", "age", "income", "city", "gender", "churned")
CITIES = {"Bonn": 0.0, "Lille": 0.9, "Porto": -0.6, "Turin": 0.3}


def customers(n: int, *, seed: int = 0, first: int = 1, moved: bool = False) -> list[dict[str, object]]:
    """Customers with what decides whether they leave: age, income, city, and chance.

    Parameters
    ----------
    n : int
    seed : int, default=0
    first : int, default=1
        Number of the first one; the id follows from it.
    moved : bool, default=False
        A campaign has brought younger customers with lower incomes, half of them in Lille.
    """
    draw = random.Random(seed)
    rows: list[dict[str, object]] = []
    for number in range(first, first + n):
        age = draw.randint(18, 45) if moved else draw.randint(18, 80)
        income = round(draw.lognormvariate(10.2 if moved else 10.5, 0.4))
        city = "Lille" if moved and draw.random() < 0.5 else draw.choice(list(CITIES))
        gender = draw.choice("fm")
        pull = 4.2 - 0.09 * age - 0.9 * math.log(income / 36_000) + CITIES[city]
        churned = int(draw.random() < 1 / (1 + math.exp(-pull)))
        rows.append(dict(zip(COLUMNS, (f"C{number:05d}", age, income, city, gender, churned), strict=True)))
    return rows


def write(path: Path, rows: list[dict[str, object]], columns: tuple[str, ...] = COLUMNS) -> None:
    """Write some columns as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
