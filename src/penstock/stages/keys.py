"""Keyed hashes of rows: a row's number depends on its key's text alone, never on type, order or library.

SipHash-2-4 (Aumasson and Bernstein, 2012) over whole columns in numpy. pandas' `hash_array` will not do: its
`hash_key` does nothing for numbers, and 1, 1.0 and "1" get different hashes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.errors import DataError, bounded
from penstock.stages.large import SLICE, slices

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Hashes = npt.NDArray[np.uint64]

_DECIMAL = r"^-?(0|[1-9][0-9]*)\.[0-9]+$"
_ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}"
_MISSING = "\0missing"


def secret(purpose: str, seed: int, salt: int) -> bytes:
    """The 16-byte key of a hash: another purpose, seed or salt is another hash altogether.

    Examples
    --------
    >>> secret("side", 0, 0).hex()[:8] != secret("side", 0, 1).hex()[:8]
    True
    """
    return hashlib.blake2b(f"penstock {purpose} {seed} {salt}".encode(), digest_size=16).digest()


def rows(table: Any, columns: Sequence[str], key: bytes) -> Hashes:
    """A 64-bit number for each row, from the canonical text of some of its cells.

    Parameters
    ----------
    table : DataFrame or LargeTable of shape (n_rows, n_columns)
    columns : sequence of str
        In an order that means something (several keys), or sorted.
    key : bytes
        From `secret`.

    Returns
    -------
    numpy.ndarray of uint64, shape (n_rows,)
        Missing cells count as one value of their own. Each column is hashed for itself, then the row of hashes,
        so that ("a", "bc") and ("ab", "c") differ.
    """
    import numpy as np

    out = np.empty(len(table), dtype=np.uint64)
    start = 0
    for part in slices(table, columns):
        words = np.empty((len(part), len(columns)), dtype=np.uint64)
        for at, name in enumerate(columns):
            words[:, at] = _column(part[name], key)
        out[start : start + len(part)] = _siphash_words(words, key)
        start += len(part)
    return out


def _column(series: pd.Series[Any], key: bytes) -> Hashes:
    """Hash a column: each distinct value once."""
    import numpy as np
    import pandas as pd

    if series.dtype == object and pd.api.types.infer_dtype(series, skipna=True) != "string":
        # Values of mixed types that compare equal (0 and False) would be taken for one: text first.
        missing = series.isna()  # of the column: of a single list it would ask each of its items
        series = pd.Series(
            [None if gone else text(value) for value, gone in zip(series, missing, strict=True)], dtype=object
        )
    codes, uniques = pd.factorize(series)
    hashes = siphash([*canonical(pd.Series(uniques)), _MISSING], key)
    out: Hashes = np.asarray(hashes)[codes]  # code -1, a missing cell, takes the last
    return out


def canonical(values: pd.Series[Any]) -> list[str]:
    """The text that stands for each value, whatever its type: 1, 1.0, "1" and "1.0" are alike, as are -0.0 and 0.

    Parameters
    ----------
    values : pandas.Series
        Without missing values.

    Examples
    --------
    >>> import pandas as pd
    >>> canonical(pd.Series([1.0, -0.0, 2.5])), canonical(pd.Series(["1", "007"]))
    (['1', '0', '2.5'], ['1', '007'])
    """
    import pandas as pd
    from pandas.api import types

    if types.is_bool_dtype(values.dtype):
        return ["true" if value else "false" for value in values]
    if types.is_integer_dtype(values.dtype):
        return [str(value) for value in values.tolist()]
    if types.is_float_dtype(values.dtype):
        return [_number(value) for value in values.astype("float64").tolist()]
    if types.is_datetime64_any_dtype(values.dtype):
        return _times(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        return canonical(pd.Series(values.array.categories.take(values.cat.codes)))
    if isinstance(values.dtype, pd.StringDtype) or all(isinstance(value, str) for value in values):
        return _texts(values)
    return [text(value) for value in values]


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def moment(value: Any) -> Any:
    """A time from `times` as people write it: text, or the number that it is."""
    if value.dtype.kind != "f":
        return _iso(str(value))
    return int(value) if value.is_integer() else float(value)


def _times(values: pd.Series[Any]) -> list[str]:
    import numpy as np

    zoned = getattr(values.dtype, "tz", None) is not None
    plain = values.dt.tz_convert("UTC").dt.tz_localize(None) if zoned else values
    texts = np.datetime_as_string(plain.to_numpy().astype("datetime64[us]"), unit="us").tolist()
    return [_iso(text) + ("+00:00" if zoned else "") for text in texts]


def _iso(text: str) -> str:
    """`2026-01-31T00:00:00.000000` → `2026-01-31`; a time of day after one space."""
    text = text.replace("T", " ")
    if "." in text:
        text = text.rstrip("0").removesuffix(".")
    if text.count(":") == 1:
        text += ":00"
    return text.removesuffix(" 00:00:00")


def _texts(values: pd.Series[Any]) -> list[str]:
    """Text as it is, but decimal numbers and ISO times as those types would be written."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = pa.array(values, pa.large_string(), from_pandas=True)
    texts: list[str] = column.to_pylist()
    odd = pc.or_(pc.match_substring_regex(column, _DECIMAL), pc.match_substring_regex(column, _ISO))
    odd = pc.or_(odd, pc.is_in(column, pa.array(["True", "False", "-0"], pa.large_string())))
    for at in pc.indices_nonzero(odd).to_pylist():
        texts[at] = text(texts[at])
    return texts


def text(value: Any) -> str:
    """Canonical text of a single value of any type.

    Examples
    --------
    >>> text(1.0), text("1.0"), text(True)
    ('1', '1', 'true')
    """
    import numpy as np

    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        value = value.item()
    if isinstance(value, np.ndarray):  # the text of a long array leaves out its middle
        return str(value.tolist())
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(dt.UTC)
        return _iso(value.strftime("%Y-%m-%dT%H:%M:%S.%f")) + ("+00:00" if value.tzinfo else "")
    if isinstance(value, dt.date):
        return value.isoformat()
    said = str(value)
    if re.fullmatch(_DECIMAL, said):
        return _number(float(said))
    if re.match(_ISO, said) and "+" not in said and not said.endswith("Z"):
        return _iso(said)
    return {"True": "true", "False": "false", "-0": "0"}.get(said, said)


def siphash(texts: Sequence[str], key: bytes) -> Hashes:
    """SipHash-2-4 of the UTF-8 bytes of many texts at once.

    Parameters
    ----------
    texts : sequence of str, length n
    key : bytes
        16 bytes.

    Returns
    -------
    numpy.ndarray of uint64, shape (n,)

    Examples
    --------
    >>> hex(int(siphash(["".join(map(chr, range(15)))], bytes(range(16)))[0]))
    '0xa129ca6149be45e5'
    """
    import numpy as np
    import pyarrow as pa

    column = pa.array(texts, pa.large_string())
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[: len(texts) + 1]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    starts, lengths = ends[:-1], np.diff(ends)
    out = np.empty(len(texts), dtype=np.uint64)
    blocks = lengths // 8 + 1
    for size in np.unique(blocks):
        chosen = np.flatnonzero(blocks == size)
        place = np.arange(int(size) * 8)
        at = starts[chosen, None] + place
        inside = place < lengths[chosen, None]
        padded = np.where(inside, raw[np.minimum(at, len(raw) - 1)], 0).astype(np.uint8)
        padded[:, -1] = lengths[chosen] & 0xFF
        out[chosen] = _rounds(padded.view("<u8").astype(np.uint64), key)
    return out


def _siphash_words(words: Hashes, key: bytes) -> Hashes:
    """SipHash-2-4 of rows of whole 8-byte words, shape (n, k) → (n,)."""
    import numpy as np

    end = np.full((len(words), 1), (words.shape[1] * 8 & 0xFF) << 56, dtype=np.uint64)
    return _rounds(np.hstack([words, end]), key)


def _rounds(words: Hashes, key: bytes) -> Hashes:
    import numpy as np

    k0, k1 = (np.uint64(int.from_bytes(key[i : i + 8], "little")) for i in (0, 8))
    n = len(words)
    constants = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    v = [np.full(n, np.uint64(c) ^ k, dtype=np.uint64) for c, k in zip(constants, (k0, k1, k0, k1), strict=True)]
    for column in words.T:
        v[3] ^= column
        _sipround(v)
        _sipround(v)
        v[0] ^= column
    v[2] ^= np.uint64(0xFF)
    for _ in range(4):
        _sipround(v)
    out: Hashes = v[0] ^ v[1] ^ v[2] ^ v[3]
    return out


def _sipround(v: list[Hashes]) -> None:
    import numpy as np

    def turn(x: Hashes, bits: int) -> Hashes:
        turned: Hashes = (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))
        return turned

    v[0] += v[1]
    v[2] += v[3]
    v[1] = turn(v[1], 13) ^ v[0]
    v[3] = turn(v[3], 16) ^ v[2]
    v[0] = turn(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = turn(v[1], 17) ^ v[2]
    v[3] = turn(v[3], 21) ^ v[0]
    v[2] = turn(v[2], 32)


def below(hashes: Hashes, share: float) -> npt.NDArray[np.bool_]:
    """Which hashes fall under a share of their range.

    Examples
    --------
    >>> import numpy as np
    >>> below(np.array([0, 2**63, 2**64 - 1], dtype=np.uint64), 0.5).tolist()
    [True, False, False]
    """
    import numpy as np

    if share >= 1:
        return np.ones(len(hashes), dtype=bool)
    under: npt.NDArray[np.bool_] = hashes < np.uint64(int(share * 2**64))
    return under


def times(series: pd.Series[Any]) -> npt.NDArray[Any]:
    """A column of times as numbers that can be ordered and subtracted.

    Parameters
    ----------
    series : pandas.Series
        Datetimes (with an offset: taken to UTC), numbers, or ISO 8601 text.

    Returns
    -------
    numpy.ndarray of datetime64[us] or float64, shape (n_rows,)
        Missing times are NaT or NaN.

    Raises
    ------
    DataError
        Text that is not ISO 8601, or another type.
    """
    from pandas.api import types

    if types.is_datetime64_any_dtype(series.dtype):
        if getattr(series.dtype, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        return series.to_numpy().astype("datetime64[us]")
    if types.is_numeric_dtype(series.dtype) and not types.is_bool_dtype(series.dtype):
        return series.to_numpy(dtype="float64", na_value=float("nan"))
    try:
        parsed = _parsed(series)
    except (ValueError, TypeError) as error:
        why = str(error).partition("\n")[0].partition(" You might want")[0]  # pandas' advice is about its own call
        raise DataError(
            f"column {series.name!r} is not a time: {bounded(why, 150)}",
            where=str(series.name),
            hint=f"dates are written 2026-01-31 or 2026-01-31T10:00:00; parse others in a step, or "
            f"read it by ps.read(…, dates=[{series.name!r}])",
        ) from None
    return parsed


def _parsed(series: pd.Series[Any]) -> npt.NDArray[Any]:
    """ISO 8601 text as datetime64[us] in UTC, a slice at a time: pandas makes an object of each text."""
    import numpy as np
    import pandas as pd

    parts = [
        pd.to_datetime(series.iloc[at : at + SLICE], format="ISO8601", utc=True)
        .dt.tz_localize(None)
        .to_numpy()
        .astype("datetime64[us]")
        for at in range(0, max(len(series), 1), SLICE)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
