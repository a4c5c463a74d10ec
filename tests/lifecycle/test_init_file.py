"""The file that `init` writes: it runs unedited, says its reasons, and survives every name that a column may have."""

from __future__ import annotations

import ast
import keyword
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner  # noqa: F401  the same Typer as the command line's

from penstock.core.workflow import Workflow
from penstock.errors import SourceNotFoundError, UsageError
from penstock.lifecycle.declaration import comment, listed, literal, module_name
from penstock.lifecycle.init import Draft, draft, write
from penstock.stages.task import Asked

MOST_LINES = 25
HOSTILE = [
    '"',
    "'",
    '"""',
    "\\",
    "{x}",
    "a\nb",
    "\u2028",
    "#",
    "=cmd()",
    "<script>",
    "名前",
    "class",
    " ",
    "\x1b[31m",
    "%s",
    "é",
]


def made_in(folder: Path, table: pd.DataFrame, *, target: str = "y", **asked: Any) -> Draft:
    """A declaration for a table, written beside it."""
    table.to_parquet(folder / "table.parquet")
    made = draft(str(folder / "table.parquet"), Asked(target, **asked), out=str(folder / "drafted.py"))
    write(made, force=True)
    return made


def declared(text: str, file: Path) -> Workflow:
    """The workflow that a file declares."""
    space: dict[str, Any] = {"__file__": str(file), "__name__": "drafted"}
    exec(compile(text, str(file), "exec"), space)
    [found] = [value for value in space.values() if isinstance(value, Workflow)]
    return found


def code_lines(text: str) -> list[str]:
    """Lines that count: no blank ones, comments or imports."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "import ", "from "))]


def table(n: int = 600, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    return pd.DataFrame({"a": a, "y": (a + rng.normal(size=n) > 0).astype(int)}).assign(**columns)


@given(st.lists(st.one_of(st.text(min_size=1, max_size=8), st.sampled_from(HOSTILE)), max_size=30))
def test_any_list_of_names_is_read_back(names: list[str]) -> None:
    assert ast.literal_eval(listed(names, 8, "")) == names


@given(st.text())
def test_any_text_stays_one_comment(text: str) -> None:
    written = comment(text)
    assert written.endswith("\n")
    assert len(written.splitlines()) == 1
    assert written.startswith("# ")


@given(st.text(max_size=60))
def test_any_file_name_gives_a_name(stem: str) -> None:
    name = module_name(stem, sys.stdlib_module_names)
    assert re.fullmatch("[a-z][a-z0-9_]{0,62}", name)
    assert not keyword.iskeyword(name)
    assert name not in sys.stdlib_module_names


def test_a_literal_prefers_double_quotes() -> None:
    assert literal("it's") == '"it\'s"'
    assert literal("plain") == '"plain"'


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([name for name in HOSTILE if name.strip()]), min_size=1, max_size=6, unique=True))
def test_hostile_names_are_written_and_read(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    rng = random.Random(0)
    words = {name: [rng.choice("pqr") for _ in range(120)] for name in names}
    made = made_in(folder, table(120, **words))
    found = declared(made.text, Path(made.path))
    encoded = [columns for _, _, columns in found.model.steps[0][1].transformers]
    assert [names] == encoded


def full(n: int = 1_500) -> pd.DataFrame:
    """A table with everything that a proposal can find."""
    rng = random.Random(0)
    made = table(
        n,
        customer_id=rng.sample(range(10**6), n),
        store_no=[f"S{i % (n // 4):04d}" for i in range(n)],
        year=[2024 + i // 800 for i in range(n)],
        month=[(i // 28) % 12 + 1 for i in range(n)],
        day=[i % 28 + 1 for i in range(n)],
        city=[rng.choice(["Bonn", "Lille", None]) for _ in range(n)],
        town=[f"t{rng.randrange(900)}" for _ in range(n)],
        gender=[rng.choice("fm") for _ in range(n)],
        constant=["x"] * n,
        fnlwgt=[rng.random() for _ in range(n)],
    )
    made["closed_reason"] = np.where(made["y"] == 1, "left", "stayed")
    return made


def test_the_file_is_short_and_clean(tmp_path: Path) -> None:
    made = made_in(tmp_path, full())
    assert len(code_lines(made.text)) <= MOST_LINES
    assert max(map(len, made.text.splitlines())) <= 200
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E4,E7,E9,F", made.path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    found = declared(made.text, Path(made.path))
    assert (found.key, found.groups, found.time) == (("customer_id",), ("store_no",), "time")
    assert found.target.after == ("closed_reason",)
    assert set(found.drop) == {"year", "constant", "fnlwgt"}
    assert found.slices == ("gender",)
    assert "check: " in made.text


def test_the_same_table_gives_the_same_file(tmp_path: Path) -> None:
    assert made_in(tmp_path, full()).text == made_in(tmp_path, full()).text


def test_a_wide_table_chooses_categories_by_type(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = {f"w{i}": [rng.choice("abc") for _ in range(700)] for i in range(80)}
    made = made_in(tmp_path, table(700, **words))
    assert "make_column_selector" in made.text
    assert len(code_lines(made.text)) <= MOST_LINES


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    made = made_in(tmp_path, table())
    Path(made.path).write_text("mine")
    with pytest.raises(UsageError, match="there is a file"):
        write(made)
    assert Path(made.path).read_text() == "mine"
    write(made, force=True)
    assert Path(made.path).read_text() == made.text


def test_the_folders_of_the_file_are_made(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "table.parquet")
    made = draft(str(tmp_path / "table.parquet"), Asked("y"), out=str(tmp_path / "new" / "deep" / "mine.py"))
    assert not (tmp_path / "new").exists()  # drafting writes nothing
    write(made)
    assert (tmp_path / "new" / "deep" / "mine.py").read_text() == made.text


@pytest.mark.parametrize(
    ("out", "said", "better"),
    [
        ("", "this is a folder", "model.py"),
        ("my flow.py", "no file that Python can import", "my_flow.py"),
        ("flow.txt", "no file that Python can import", "flow.py"),
        ("2026.py", "no file that Python can import", ".py"),
        ("class.py", "no file that Python can import", ".py"),
    ],
)
def test_a_file_that_could_not_be_run_is_refused_before_reading(
    tmp_path: Path, out: str, said: str, better: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        draft("nowhere.csv", Asked("y"), out=str(tmp_path / out))
    suggested = str(caught.value.hint).removeprefix("name a file such as ")
    assert suggested.endswith(better)
    with pytest.raises(SourceNotFoundError):  # what is suggested is accepted: only the table is missing
        draft("nowhere.csv", Asked("y"), out=suggested)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"no file nowhere\.csv"):
        draft("nowhere.csv", Asked("y"))


def test_the_table_is_named_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    table().to_csv(tmp_path / "data" / "json.csv", index=False)
    monkeypatch.chdir(tmp_path)
    made = draft("data/json.csv", Asked("y"))
    assert 'ps.read("data/json.csv")' in made.text
    assert os.path.basename(made.path) == "json_model.py"  # json.py would hide the library


def drafted_from_csv(folder: Path, text: str, target: str = "y", **asked: Any) -> tuple[Draft, Workflow]:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    made = draft(str(folder / "t.csv"), Asked(target, **asked), out=str(folder / "drafted.py"))
    write(made, force=True)
    return made, declared(made.text, Path(made.path))


def prepared_by(made: Draft) -> Any:
    """The step that the file declares, as a function."""
    space: dict[str, Any] = {"__file__": made.path, "__name__": "drafted"}
    exec(compile(made.text, made.path, "exec"), space)
    return space["prepared"]


def csv_of(table: pd.DataFrame, **options: Any) -> str:
    return str(table.to_csv(index=False, **options))


def test_numbers_that_are_written_as_texts_become_numbers(tmp_path: Path) -> None:
    price = [f"${1_000 + i * 3:,}.50" for i in range(600)]
    made, found = drafted_from_csv(tmp_path, csv_of(table(price=price, share=[f"{i % 50} %" for i in range(600)])))
    assert set(found.drop) == set()
    assert "price" in made.text
    raw = pd.DataFrame({"price": price[:2], "share": ["3 %", None]})
    out = prepared_by(made)(raw)
    assert out["price"].tolist() == [1000.5, 1003.5]
    assert out["share"].iloc[0] == 3
    assert out["share"].isna().tolist() == [False, True]


def test_decimal_commas_become_numbers_also_in_the_target(tmp_path: Path) -> None:
    amounts = [f"{i / 7:.2f}".replace(".", ",") for i in range(600)]
    made, _ = drafted_from_csv(tmp_path, csv_of(table(), sep=";").replace(".", ","), target="a")
    assert "numbers written as texts, a comma before the decimals" in made.text
    assert made.proposal.task == "regression"
    assert prepared_by(made)(pd.DataFrame({"a": amounts[:3]}))["a"].tolist() == [0.0, 0.14, 0.29]


def test_the_country_code_of_namibia_stays(tmp_path: Path) -> None:
    rng = random.Random(0)
    columns = {
        "land": [rng.choice(["NA", "DE", "ZA", "BW"]) for _ in range(600)],
        "grade": [rng.choice(["NA", "A", "B"]) for _ in range(600)],
    }
    made, _ = drafted_from_csv(tmp_path, csv_of(table(**columns)))
    assert "na=[" not in "".join(code_lines(made.text))
    assert "\"NA\" stays what it is, for 'land' holds codes of two letters" in made.text
    made, _ = drafted_from_csv(tmp_path, csv_of(table(grade=columns["grade"])))
    assert 'ps.read("t.csv", na=["NA"])' in made.text
    assert "\"grade\": 'NA' is taken as missing" in made.text


def test_whole_numbers_are_no_classes_to_an_encoder(tmp_path: Path) -> None:
    """A target encoder takes whole numbers for classes, and would make a column of each."""
    rng = random.Random(0)
    many = [f"t{rng.randrange(400)}" for _ in range(900)]
    made = made_in(tmp_path, table(900, town=many, pieces=[rng.randrange(300) for _ in range(900)]), target="pieces")
    assert 'TargetEncoder(target_type="continuous")' in made.text
    made = made_in(tmp_path, table(900, town=many))
    assert "TargetEncoder()" in made.text


def test_a_linear_model_is_told_of_sentinels(tmp_path: Path) -> None:
    ages = [999 if i % 9 == 0 else 20 + i % 60 for i in range(300)]
    made = made_in(tmp_path, table(300, age=ages))
    assert '(scaled(none=999), ["age"])' in made.text
    assert re.search('# check: "age": 999 in 1. % of the rows, and all others from 20 to 79', made.text)
    model = declared(made.text, Path(made.path)).model
    X = pd.DataFrame({"a": np.linspace(-1, 1, 300), "age": ages})
    model.fit(X, [i % 2 for i in range(300)])
    reached = model[:-1].transform(X)
    assert np.abs(reached).max() < 4  # 999 does not stretch the scale of the ages
    assert np.isfinite(model.predict_proba(pd.DataFrame({"a": [0.0], "age": [np.nan]}))).all()
    made = made_in(tmp_path, table(3_000, age=ages * 10))
    assert "missing_values" not in made.text
    assert "The trees tell it apart" in made.text


def test_seconds_since_1970_are_a_time(tmp_path: Path) -> None:
    made = made_in(tmp_path, table(created_at=range(1_700_000_000, 1_700_000_000 + 600 * 3_600, 3_600)))
    found = declared(made.text, Path(made.path))
    assert found.time == "created_at"
    out = prepared_by(made)(pd.DataFrame({"created_at": [1_700_000_000]}))
    assert out["created_at"].tolist() == [pd.Timestamp("2023-11-14 22:13:20")]


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\u202e", "\u200f"])
def test_what_turns_or_breaks_a_line_is_written_out(text: str) -> None:
    assert text not in comment(f"a{text}b")
