"""The real tables of ../shared/data: shapes, missing markers and types, as their README states them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from penstock.core.source import Source
from penstock.stages import ingest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

SHAPES = {
    "abalone.csv": (4177, 9),
    "adult_test.csv.gz": (16281, 15),
    "adult_train.csv.gz": (32561, 15),
    "bank_additional_full.csv.gz": (41188, 21),
    "beijing_pm25_hourly.csv.gz": (43824, 13),
    "bike_day.csv": (731, 16),
    "bike_hour.csv.gz": (17379, 17),
    "covtype_sample.csv.gz": (10000, 55),
    "german_credit_uci.csv": (1000, 21),
    "horse_colic.csv": (300, 28),
    "hotel_bookings.csv.gz": (119390, 32),
    "nycflights13_airlines.csv": (16, 2),
    "nycflights13_airports.csv": (1458, 8),
    "nycflights13_planes.csv": (3322, 9),
    "nycflights13_weather.csv.gz": (26115, 15),
    "nycflights_sample.csv.gz": (32735, 16),
    "online_retail.parquet": (541909, 8),
    "telco_churn.csv": (7043, 21),
    "winequality_white.csv": (4898, 12),
}


def read(name, **options):
    if not (DATA / name).exists():
        pytest.skip(f"the shared table {name} is absent: ../shared/data")
    return ingest.read(Source(str(DATA / name), Path(name.removesuffix(".gz")).suffix, **options))


def test_every_shared_table_is_listed_here():
    if not DATA.exists():
        pytest.skip("the shared tables are absent: ../shared/data")
    assert {p.name for p in DATA.iterdir()} - {"README.md"} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    table, sniffed = read(name)
    assert (table.num_rows, table.num_columns) == SHAPES[name]
    assert f"{SHAPES[name][0]:,} × {SHAPES[name][1]}" in sniffed["summary"]


def test_adult_question_marks_are_missing_and_spaces_gone():
    table, sniffed = read("adult_train.csv.gz")
    assert sniffed["summary"] == ('"," utf-8 gzip · missing: "?" (4,262 cells in 3 columns) · 32,561 × 15')
    assert sorted(set(table["income"].to_pylist())) == ["<=50K", ">50K"]
    assert table["workclass"].null_count / 32561 == pytest.approx(0.056, abs=5e-4)


def test_telco_blank_totals_are_missing_numbers():
    table, sniffed = read("telco_churn.csv")
    assert table["TotalCharges"].type == pa.float64()
    assert table["TotalCharges"].null_count == 11
    assert sniffed["missing"] == {"": {"TotalCharges": 11}}
    assert table["SeniorCitizen"].type == pa.int64()


def test_hotel_null_is_missing_in_numbers_and_said_in_text():
    table, sniffed = read("hotel_bookings.csv.gz")
    assert table["company"].null_count / 119390 == pytest.approx(0.94, abs=5e-3)
    assert sniffed["kept"] == {"NULL": {"country": 488}}
    assert table["children"].null_count == 4
    table, sniffed = read("hotel_bookings.csv.gz", na=("NULL",))
    assert table["country"].null_count == 488
    assert sniffed["kept"] == {}


def test_horse_colic_codes_keep_their_zeros():
    table, _ = read("horse_colic.csv")
    assert table["lesion_site"].to_pylist()[:2] == ["11300", "02208"]


def test_weather_hours_are_read_with_their_offset():
    table, _ = read("nycflights13_weather.csv.gz", dates=("time_hour",))
    assert table["time_hour"].type == pa.timestamp("us", "UTC")
