"""`penstock predict --on`: what is put together of slices has the bytes of what is answered at once."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from penstock.backends.backend import OURS
from penstock.backends.dask_predict import cut, job_of
from penstock.cli import divided
from penstock.cli.scoring import write
from penstock.engine.wire import rebuilt
from penstock.lifecycle.versions import resolve
from penstock.project import open_home
from penstock.serve import model
from penstock.serve import slice as answering

if TYPE_CHECKING:
    from conftest import Shop


class Here:
    """Takes the place of a cluster: answers each slice by the command line that a Dask worker would get."""

    asked: list[list[str]] = []

    def predict(self, home: Any, version: Any, table: tuple[str, int, int], gaps: list[str], _where: str) -> list[Any]:
        digest, n_rows, rows = table
        told = []
        for first, last in cut(-(-n_rows // rows), 3):
            words = job_of(home, version, digest, (first * rows, min(last * rows, n_rows)), gaps)["arguments"]
            self.asked.append(words)
            with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(None):
                patched.setenv("PENSTOCK_RESULT", self.result)
                code = answering.main(words[3:])
            answer = json.loads(Path(self.result).read_text())
            if code:
                raise rebuilt(answer["error"])
            told.append(answer)
        return told

    result = ""


@pytest.fixture
def in_slices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Here]:
    """Slices of 40 rows, in this process."""
    monkeypatch.setattr(model, "CHUNK_ROWS", 40)
    monkeypatch.setattr(answering, "CHUNK_ROWS", 40)
    monkeypatch.setattr(divided, "CSV_CELLS", 600)
    monkeypatch.setattr("pandas.io.formats.csvs._DEFAULT_CHUNKSIZE_CELLS", 600)
    monkeypatch.setitem(OURS, "dask", f"{__name__}:Here")
    monkeypatch.setattr(Here, "asked", [])
    monkeypatch.setattr(Here, "result", str(tmp_path / "result.json"))
    return Here


def rows_of(n: int) -> pd.DataFrame:
    rng = random.Random(3)
    frame = pd.DataFrame({"a": [rng.gauss(0, 1) for _ in range(n)], "b": [rng.gauss(0, 1) for _ in range(n)]})
    frame.insert(0, "customer_id", [f"c{i}" for i in range(n)])
    frame["more"] = "x"
    return frame


def objects(shop: Shop) -> set[str]:
    return {one.digest for one in open_home(str(shop.folder)).objects.walk()}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_answers_of_slices_have_the_bytes_of_answers_at_once(shop: Shop, in_slices: type[Here], kind: str) -> None:
    rows_of(170).to_csv(shop.folder / "many.csv", index=False)
    before = objects(shop)
    assert shop.call("predict", "churn@1", "many.csv", "--out", f"once.{kind}").code == 0
    ended = shop.call("predict", "churn@1", "many.csv", "--out", f"slices.{kind}", "--on", "dask")
    assert ended.code == 0, ended.err
    assert f"churn@1 · 170 rows → slices.{kind}" in ended.err
    assert (shop.folder / f"slices.{kind}").read_bytes() == (shop.folder / f"once.{kind}").read_bytes()
    assert [words[words.index("--rows") + 1] for words in in_slices.asked] == ["0:40", "40:120", "120:170"]
    assert objects(shop) == before
    assert not list(shop.folder.glob(".predicted-*"))


def test_whole_numbers_with_a_gap_in_another_slice_are_decimals_in_each(shop: Shop, in_slices: type[Here]) -> None:
    frame = rows_of(100)
    frame["customer_id"] = pd.array([None if i == 90 else i for i in range(100)], dtype="Int64")
    frame["a"] = [float(i) for i in range(100)]
    frame.to_parquet(shop.folder / "gaps.parquet")
    for out, on in (("once.csv", ()), ("slices.csv", ("--on", "dask"))):
        assert shop.call("predict", "churn@1", "gaps.parquet", "--out", out, *on).code == 0
    assert (shop.folder / "slices.csv").read_bytes() == (shop.folder / "once.csv").read_bytes()
    assert in_slices.asked[-1][-1] == "--gap=customer_id"


def test_a_slice_says_which_rows_have_no_answer_and_nothing_is_left(shop: Shop, in_slices: type[Here]) -> None:
    frame = rows_of(100).astype({"a": object})
    frame.loc[95, "a"] = "oops"
    frame.to_csv(shop.folder / "bad.csv", index=False)
    ended = shop.call("predict", "churn@1", "bad.csv", "--out", "none.csv", "--on", "dask")
    assert ended.code != 0
    assert 'rows 80 to 99: column "a" must be a finite number' in ended.err
    assert not (shop.folder / "none.csv").exists()


def test_a_missing_column_is_told_before_anything_is_sent(shop: Shop, in_slices: type[Here]) -> None:
    rows_of(100).drop(columns="b").to_csv(shop.folder / "less.csv", index=False)
    ended = shop.call("predict", "churn@1", "less.csv", "--out", "none.csv", "--on", "dask")
    assert (ended.code, 'less.csv: column "b" is missing' in ended.err) == (3, True)
    assert in_slices.asked == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--on", "dask"), "--on: the answers go to a file"),
        (("--on", "airflow", "--out", "x.csv"), "--on airflow: it runs flows, and answers no file by slices"),
        (("--on", "dusk", "--out", "x.csv"), 'did you mean "dask"'),
    ],
)
def test_what_no_backend_divides_is_refused(shop: Shop, words: tuple[str, ...], says: str) -> None:
    rows_of(5).to_csv(shop.folder / "few.csv", index=False)
    ended = shop.call("predict", "churn@1", "few.csv", *words)
    assert (ended.code, says in ended.err) == (2, True)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_blocks_end_where_those_of_pandas_do(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 1_100_000 if kind == "parquet" else 130_000
    days = pd.Series(pd.to_datetime("2024-01-01")).repeat(n).reset_index(drop=True)
    days[n // 2 :: 7] += pd.Timedelta("1h")  # the days alone are shown where no cell of a block has an hour
    frame = pd.DataFrame({"day": days, "value": range(n)})
    frame.attrs["unseen"] = {"city": 3}
    write(frame, str(tmp_path / f"once.{kind}"))
    parts = (frame.iloc[at : at + 50_000] for at in range(0, n, 50_000))
    divided.write_parts(parts, str(tmp_path / f"parts.{kind}"), {"city": 3})
    assert (tmp_path / f"parts.{kind}").read_bytes() == (tmp_path / f"once.{kind}").read_bytes()


def test_a_slice_tells_a_fault_as_a_worker_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    result = tmp_path / "result.json"
    monkeypatch.setenv("PENSTOCK_RESULT", str(result))
    version = resolve(open_home(str(shop.folder)).ledger, "churn@1")
    words = job_of(open_home(str(shop.folder)), version, "ab" * 32, (0, 5), [])["arguments"][3:]
    code = answering.main(words)
    told = json.loads(result.read_text())
    assert (code, told["exit"], told["state"]) == (code, code, "failed")
    assert json.loads(capsys.readouterr().out) == told
    assert "abab" in told["reason"]
