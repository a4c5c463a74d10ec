"""A proposal becomes the text of a Python file: the declaration as a person would write it, with the reasons beside."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.stages.profiles import kind_of
from penstock.stages.propose import Proposal
from penstock.stages.roles import Reason

WIDTH = 110
"""Longest line that is written, but for a single name that is longer."""
MOST_NAMED = 60
"""Categories listed by name; beyond, they are chosen by their type."""
MOST_COMMENTED = 12
"""Lines of reasons above one field."""
_STEP = "prepared"
_SCALED = "scaled"
# A cell may be empty as well: it gets the median, which may be the number that means none, which then is none.
_SCALING = f"""

def {_SCALED}(none):
    known = SimpleImputer(missing_values=none, strategy="median", add_indicator=True)
    return make_pipeline(SimpleImputer(strategy="median"), known, StandardScaler())
"""
_NOT_PLAIN = re.compile(r"[^\x20-\x7e\xa0-\u1fff\u2010-\u2027\u2030-\u205f\u2070-\ud7ff\ue000-\ufefe\uff00-\ufffd]")
"""What ends a line or turns the direction of reading: written out in comments."""


def literal(value: Any) -> str:
    r"""A value as Python source on one line, texts in double quotes, whatever they hold.

    Examples
    --------
    >>> literal("a"), literal('say "hi"'), literal(3)
    ('"a"', '\'say "hi"\'', '3')
    """
    if not isinstance(value, str):
        return repr(value)
    text = repr(value)
    plain = text[0] == "'" and '"' not in text and "\\'" not in text
    return f'"{text[1:-1]}"' if plain else text


def listed(names: Sequence[str], indent: int, lead: str) -> str:
    """A list of names after `lead`: on one line where it fits, else wrapped, several on a line.

    Parameters
    ----------
    names : sequence of str
    indent : int
        Spaces before `lead`.
    lead : str
        What stands before the list on its first line.
    """
    cells = [literal(name) for name in names]
    whole = "[" + ", ".join(cells) + "]"
    if indent + len(lead) + len(whole) + 1 <= WIDTH:
        return lead + whole
    lines, line = [], ""
    for cell in cells:
        if line and indent + 4 + len(line) + len(cell) + 2 > WIDTH:
            lines.append(line)
            line = ""
        line += (" " if line else "") + cell + ","
    inner = "".join(" " * (indent + 4) + one + "\n" for one in [*lines, line])
    return lead + "[\n" + inner + " " * indent + "]"


def comment(text: str, indent: int = 0) -> str:
    """A text as one comment line; what could end the line is written out."""
    harmless = _NOT_PLAIN.sub(lambda m: m[0].encode("unicode_escape").decode(), text)
    return " " * indent + f"# {harmless}\n"


def module_name(stem: str, taken: Iterable[str]) -> str:
    """A name for file, variable and workflow that Python and Penstock both take.

    Parameters
    ----------
    stem : str
        Of the table's file.
    taken : iterable of str
        Names of modules that a file of that name would hide.

    Examples
    --------
    >>> module_name("Telco Churn (2026)", ()), module_name("json", {"json"}), module_name("2026", ())
    ('telco_churn_2026', 'json_model', 'model_2026')
    >>> module_name("Kündigungen", ())
    'kundigungen'
    """
    bare = "".join(one for one in unicodedata.normalize("NFKD", stem) if not unicodedata.combining(one))  # ü is u
    name = re.sub(r"[^a-z0-9]+", "_", bare.lower()).strip("_")[:50].strip("_") or "model"
    if not name[0].isalpha():
        name = f"model_{name}"
    return f"{name}_model" if name in set(taken) or keyword.iskeyword(name) else name


def source_text(found: Proposal, *, name: str, path: str, options: Mapping[str, Any], about: str, table: Any) -> str:
    """The whole file.

    Parameters
    ----------
    found : Proposal
    name : str
        As `module_name` gives it.
    path : str
        The table, relative to the file that is written.
    options : dict
        Further arguments of `ps.read`.
    about : str
        What the table is, in a few words.
    table : DataFrame
        For the types of the columns that a step must handle.
    """
    model = _model(found)
    step = _step(found, table)
    data = _data(path, options)
    imports = "".join(f"{line}\n" for line in _imports(model + (_SCALING if found.sentinels else "")))
    head = comment(f"Written by `penstock init` from {about}.")
    head += comment("Each choice has its reason beside it; `check` marks those that are worth a look.")
    pandas = "import pandas as pd\n" if step else ""
    text = head + pandas + "import penstock as ps\n" + imports + (_SCALING if found.sentinels else "")
    if step:
        text += f"\n\n{step}\n"
        data = f"{_STEP}({data})"
    text += "\n" if found.sentinels and not step else ""
    return text + f"\n{name} = ps.Workflow(\n{_fields(found, name, data, model)})\n"


def _fields(found: Proposal, name: str, data: str, model: str) -> str:
    told = _Told(found.reasons)
    lines = [f"    name={literal(name)},\n", told.of("na", "numbers"), f"    data={data},\n"]
    lines += [told.of("target", "missing", "after", "doubt"), f"    target={_target(found)},\n"]
    if found.key:
        lines += [told.of("key"), f"    key={_one_or_several(found.key)},\n"]
    if found.moment:
        lines += [told.of("time"), f"    time={literal(found.moment.column)},\n"]
    if found.groups:
        lines += [told.of("groups"), f"    groups={_one_or_several(found.groups)},\n"]
    if found.drop:
        lines += [told.of("drop"), "    " + listed(found.drop, 4, "drop=") + ",\n"]
    lines.append(told.of("split", "order"))
    if given := [f"by={literal(found.by)}"] * bool(found.by) + ["stable=False"] * (not found.stable):
        lines.append(f"    split=ps.Split({', '.join(given)}),\n")
    lines += [told.of("model", "sentinel"), f"    model={model},\n"]
    lines += [told.of("metrics"), "    " + listed(found.metrics, 4, "metrics=") + ",\n"]
    if found.slices:
        lines += [told.of("slices"), "    " + listed(found.slices, 4, "slices=") + ",\n"]
    return "".join(lines)


def _one_or_several(names: tuple[str, ...]) -> str:
    return literal(names[0]) if len(names) == 1 else listed(names, 4, "")


class _Told:
    """Reasons as comments above the field that they led to."""

    def __init__(self, reasons: Sequence[Reason]) -> None:
        self.reasons = reasons

    def of(self, *topics: str) -> str:
        """Comment lines for some topics; columns with the same reason share one."""
        grouped: dict[tuple[str, str, float], list[str]] = {}
        for one in self.reasons:
            if one.topic in topics:
                grouped.setdefault((one.topic, one.why, one.confidence), []).append(one.choice)
        lines = []
        for (topic, why, confidence), choices in grouped.items():
            several = topic in {"drop", "after", "doubt", "na", "numbers", "sentinel"}
            who = ", ".join(literal(choice) for choice in choices[:8])
            who += f" and {len(choices) - 8} more" if len(choices) > 8 else ""
            mark = "check: " if confidence < 0.8 else ""
            before = f"{who}: " if several else f"split by {who[1:-1]}: " if topic == "split" else ""
            lines.append(comment(f"{mark}{before}{why} ({confidence:.2g})", 4))
        if len(lines) > MOST_COMMENTED:
            rest = len(lines) - MOST_COMMENTED + 1
            lines = [*lines[: MOST_COMMENTED - 1], comment(f"… and {rest} more: `penstock init --why` lists all", 4)]
        return "".join(lines)


def _target(found: Proposal) -> str:
    target = found.target
    extras = []
    if target.positive is not None:
        extras.append(f"positive={literal(target.positive)}")
    if target.missing != "error":
        extras.append(f"missing={literal(target.missing)}")
    if target.after:
        extras.append(listed(target.after, 8, "after="))
    if not extras:
        return literal(target.column)
    whole = f"ps.Target({', '.join([literal(target.column), *extras])})"
    if len(whole) + 12 <= WIDTH and "\n" not in whole:
        return whole
    return "ps.Target(\n" + "".join(f"        {one},\n" for one in [literal(target.column), *extras]) + "    )"


def _data(path: str, options: Mapping[str, Any]) -> str:
    given = "".join(
        ", " + (listed(value, 4, f"{key}=") if isinstance(value, list) else f"{key}={literal(value)}")
        for key, value in options.items()
    )
    return f"ps.read({literal(path)}{given})"


# ── the step before the split ────────────────────────────────────────────────────────────────────────────────


def _step(found: Proposal, table: Any) -> str:
    """A step for what `ps.read` does not do: the time from its parts or an odd form, gaps in sentences; "" if none."""
    lines = []
    moment = found.moment
    told = []
    if moment is not None and moment.parts:
        value, before = _from_parts(dict(moment.parts), table)
        lines.append(f"{before}    table[{literal(moment.column)}] = {value}\n")
        told.append("the time of each row")
    elif moment is not None and moment.form not in {"", "iso"}:
        column = f"table[{literal(moment.column)}]"
        how = f"unit={literal(moment.form)}" if moment.form in {"s", "ms"} else f"format={literal(moment.form)}"
        texts = column if moment.form in {"s", "ms"} else f"{column}.astype(str)"
        lines.append(f"    {column} = pd.to_datetime({texts}, {how})\n")
        told.append("the time of each row")
    lines += [f'    table[{literal(name)}] = table[{literal(name)}].fillna("")\n' for name in found.gaps]
    if found.gaps:
        told.append("an empty text where there is none")
    for form in sorted(set(found.disguised.values())):
        names = [name for name, its in found.disguised.items() if its == form]
        lines.append(_read_numbers(names, form))
        told.append("numbers out of texts")
    if not lines:
        return ""
    told = list(dict.fromkeys(told))
    head = f"@ps.step\ndef {_STEP}(table: pd.DataFrame) -> pd.DataFrame:\n    # {' and '.join(told)}\n"
    return head + "".join(lines) + "    return table\n"


def _read_numbers(names: Sequence[str], form: str) -> str:
    """The lines that make numbers of texts, as `stages.disguised.as_numbers` does."""
    one = literal(names[0]) if len(names) == 1 else "name"
    plain = f'table[{one}].str.replace(r"[^\\d{form}-]", "", regex=True)'
    if form == ",":
        plain += '.str.replace(",", ".")'
    line = f"table[{one}] = pd.to_numeric({plain})\n"
    return f"    {line}" if len(names) == 1 else f"    {listed(names, 4, 'for name in ')}:\n        {line}"


def _from_parts(parts: Mapping[str, str], table: Any) -> tuple[str, str]:
    """The expression of a time from its parts, and the lines that must stand before it."""
    if kind_of(table[parts["month"]]) != "text":
        if all(unit == name for unit, name in parts.items()):
            return f"pd.to_datetime(table[{listed(list(parts.values()), 8, '')}])", ""
        units = "{" + ", ".join(f"{literal(name)}: {literal(unit)}" for unit, name in parts.items()) + "}"
        return "pd.to_datetime(table[list(parts)].rename(columns=parts))", f"    parts = {units}\n"
    names = listed([parts["year"], parts["month"], parts["day"]], 8, "")
    whole = max(len(str(month)) for month in table[parts["month"]].unique()) > 3
    form = literal("%Y-%B-%d" if whole else "%Y-%b-%d")
    return f'pd.to_datetime(year + "-" + month + "-" + day, format={form})', (
        f"    year, month, day = (table[name].astype(str) for name in {names})\n"
    )


# ── the model ────────────────────────────────────────────────────────────────────────────────────────────────


def _model(found: Proposal) -> str:
    classes = found.task != "regression"
    if found.model == "boosted":
        # Without it the trees of a rare class diverge: log loss 2.5 where 0.5 can be had, on seven kinds of forest.
        final = f"HistGradientBoosting{'Classifier' if classes else 'Regressor'}"
        options = ["l2_regularization=1.0"] if found.task == "multiclass" else []
        first = "[0]" if len(found.words) == 1 else f"list(range({len(found.words)}))"
        options += [f"categorical_features={first}"] if found.words else []
        final = f"{final}({', '.join(options)})"
        if not found.words and not found.many:
            return final
        return _pipeline(_boosted_parts(found), '"passthrough"', final)
    final = "LogisticRegression(max_iter=1000)" if classes else "Ridge()"
    rest = 'make_pipeline(SimpleImputer(strategy="median"), StandardScaler())'
    if not _linear_parts(found):
        return f'make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), {final})'
    return _pipeline(_linear_parts(found), rest if found.numbers else '"drop"', final)


def _boosted_parts(found: Proposal) -> list[str]:
    parts = []
    if found.words:
        coder = 'OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)'
        parts.append(_part(coder, found.words))
    if found.many:
        parts.append(_part(_target_encoder(found), found.many))
    return parts


def _target_encoder(found: Proposal) -> str:
    """Told of numbers: it takes whole ones for classes, and makes a column of each."""
    return "TargetEncoder()" if found.task != "regression" else 'TargetEncoder(target_type="continuous")'


def _linear_parts(found: Proposal) -> list[str]:
    parts = []
    if found.words:
        parts.append(_part('OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5)', found.words))
    if found.many:
        parts.append(_part(_target_encoder(found), found.many))
    for value in dict.fromkeys(one.value for one in found.sentinels):
        names = [one.column for one in found.sentinels if one.value == value]
        parts.append(_part(f"{_SCALED}(none={value:.15g})", names))
    parts += [f"(TfidfVectorizer(max_features=2000), {literal(name)})" for name in found.texts]
    return parts


def _part(transformer: str, names: Sequence[str]) -> str:
    whole = f"({transformer}, {listed(names, 12, '')})"
    if "\n" not in whole and len(whole) + 13 <= WIDTH:
        return whole
    chosen = (
        listed(names, 12, "") if len(names) <= MOST_NAMED else 'make_column_selector(dtype_exclude=["number", "bool"])'
    )
    return f"({transformer}, {chosen})"


def _pipeline(parts: Sequence[str], rest: str, final: str) -> str:
    inner = "".join(f"            {part},\n" for part in parts)
    columns = f"make_column_transformer(\n{inner}            remainder={rest},\n        )"
    return f"make_pipeline(\n        {columns},\n        {final},\n    )"


_HOMES = {
    "sklearn.compose": ("make_column_selector", "make_column_transformer"),
    "sklearn.ensemble": ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"),
    "sklearn.feature_extraction.text": ("TfidfVectorizer",),
    "sklearn.impute": ("SimpleImputer",),
    "sklearn.linear_model": ("LogisticRegression", "Ridge"),
    "sklearn.pipeline": ("make_pipeline",),
    "sklearn.preprocessing": ("OneHotEncoder", "OrdinalEncoder", "StandardScaler", "TargetEncoder"),
}


def _imports(model: str) -> list[str]:
    """Import lines for the names that the model's text uses as calls."""
    lines = []
    for module, names in _HOMES.items():
        used = [name for name in names if f"{name}(" in model]
        if used:
            lines.append(f"from {module} import {', '.join(used)}")
    return lines
