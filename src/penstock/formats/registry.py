"""Chooses the format of a value by the name of its type, so that no library is imported to ask."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import Artifact, Batched, Written
from penstock.core.fan import FORMAT as LIST
from penstock.core.fan import Results, pack, unpack
from penstock.errors import FormatError, bounded
from penstock.formats import canonical_json

if TYPE_CHECKING:
    from penstock.core.ports import Objects
    from penstock.formats.format import Format, Stage

WANTS = ("", "pandas", "polars", "arrow", "path", "stored")
"""What a reader may ask for; "" is the value as its maker had it."""

_JSON = frozenset((dict, list, str, int, float, bool, type(None), tuple, set, frozenset, complex))
_TABLES = {("pandas", "DataFrame"): "pandas", ("polars", "DataFrame"): "polars", ("pyarrow", "Table"): "arrow"}
_NOT_YET = {
    ("pandas", "Series"): "Return a table: series.to_frame().",
    ("polars", "Series"): "Return a table: series.to_frame().",
    ("polars", "LazyFrame"): "Return a table: frame.collect().",
    ("pyarrow", "RecordBatch"): "Return a table: pyarrow.Table.from_batches([batch]).",
}


class FormatRegistry:
    """The formats, as `core.ports.Formats`.

    | value | format |
    |---|---|
    | pandas, polars or pyarrow table | parquet |
    | scikit-learn estimator, or anything with `fit` and `get_params` | skops |
    | numpy array | npy |
    | bytes | bytes |
    | `os.PathLike` | path |
    | `core.artifact.Written` | the one it names; the file is moved in |
    | `core.artifact.Batched` | parquet |
    | Python's own values, numpy scalars | json |
    | a list of which a part is none of these | list: each part by itself, in its own format |
    | anything else | a package's own, by the entry-point group `penstock.formats` |

    Parameters
    ----------
    trust : iterable of str, default=()
        Exact names of further types that estimators may hold (`trust` in the configuration).
    project_types : iterable of str, default=()
        Exact names of the classes and functions of the user's own modules.

    Examples
    --------
    >>> artifact = FormatRegistry().dump({"auc": 0.9}, stage=None)
    >>> artifact.text
    '{"auc":0.9}'
    >>> FormatRegistry().load(artifact, objects=None)
    {'auc': 0.9}
    """

    def __init__(self, trust: Iterable[str] = (), project_types: Iterable[str] = ()) -> None:
        self._trust = frozenset(trust)
        self._project_types = frozenset(project_types)
        self._plugins: dict[str, Format] | None = None
        self._scratch: str | None = None

    def trusting(self, project_types: Iterable[str]) -> FormatRegistry:
        """A registry that also trusts these classes and functions of the user's own modules."""
        return FormatRegistry(self._trust, self._project_types | frozenset(project_types))

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────

    def dump(self, value: Any, stage: Stage) -> Artifact:
        """Turn a value into bytes, stage them and name them.

        Equal values give equal bytes, whatever process, hash seed or order of insertion.

        Raises
        ------
        FormatError
            No format keeps values of this type, or the value would not come back equal; says how to add one.
        """
        if type(value) is list:
            return self._dump_list(value, stage)
        if type(value) in _JSON:
            return canonical_json.dump(value, stage)
        return self._dump_other(value, stage)

    def _dump_list(self, value: list[Any], stage: Stage) -> Artifact:
        """As JSON what JSON can hold; else, as of tables, what a mapped step gives: each part by itself."""
        try:
            return canonical_json.dump(value, stage)
        except FormatError:
            if all(type(one) in _JSON for one in value):
                raise
        return pack([self.dump(one, stage) for one in value], stage)

    def _dump_other(self, value: Any, stage: Stage) -> Artifact:
        kind = type(value)
        key = (kind.__module__.partition(".")[0], kind.__name__)
        if kind is Written:
            digest, size = stage(value.path)
            return Artifact(digest, value.format, size, None, tuple(value.refs))
        if kind is Results:
            return pack(value.artifacts, stage)
        if kind is Batched:
            from penstock.formats import parquet_stored

            return parquet_stored.dump(value, stage)
        if key in _TABLES:
            from penstock.formats import parquet

            return parquet.dump(value, stage, _TABLES[key])
        if _is_estimator(value):
            from penstock.formats import skops

            return skops.dump(value, stage)
        if kind is bytes:
            digest, size = stage(value)
            return Artifact(digest, "bytes", size)
        if isinstance(value, os.PathLike):
            from penstock.formats import paths

            return paths.dump(value, stage)
        if key[0] == "numpy" and hasattr(value, "dtype") and hasattr(value, "tofile"):
            if not hasattr(value, "__setitem__") or kind.__name__ == "void":
                return canonical_json.dump(value, stage)
            from penstock.formats import npy

            return npy.dump(value, stage)
        if key[0] in ("datetime", "decimal") and kind.__module__ == key[0]:
            return canonical_json.dump(value, stage)
        for plugin in self._found().values():
            if plugin.takes(value):
                return plugin.dump(value, stage)
        raise _refusal(value, key)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, artifact: Artifact, objects: Objects, want: str = "") -> Any:
        """Read a value back, verified.

        Parameters
        ----------
        want : str, default=""
            For tables "pandas", "polars" or "arrow", or "stored" for a `core.artifact.StoredTable` where it is large;
            "path" gives the path of a read-only file with the verified bytes; "" gives the value as its
            maker had it (a table without our mark: pandas).

        Raises
        ------
        FormatError, UntrustedTypeError, MissingObjectError, CorruptObjectError
        """
        kind = artifact.format
        if kind == "json" and not want:
            return canonical_json.load(artifact, objects)
        if want not in WANTS:
            raise FormatError(f"There is no reading as {bounded(want, 40)!r}.", hint=f"One of {', '.join(WANTS[1:])}.")
        if kind == LIST:
            return Results(unpack(canonical_json.text_of(artifact, objects)), lambda one: self._one(one, objects, want))
        if want == "path" and kind not in ("path", "json"):
            return objects.fetch(artifact.digest)
        if kind == "parquet":
            if want == "stored":
                from penstock.formats import parquet_stored

                return parquet_stored.load(artifact, objects)
            from penstock.formats import parquet

            return parquet.load(artifact, objects, want)
        if want in ("pandas", "polars", "arrow"):  # our own stages look for themselves at what they are given
            raise FormatError(
                f"A table was wanted ({want}), but this is stored as {bounded(kind, 40)}.",
                hint="Change the annotation of the step's parameter, or return a table from its maker.",
            )
        return self._load_other(artifact, objects, want)

    def _one(self, artifact: Artifact, objects: Objects, want: str) -> Any:
        """One of several values: what is asked for of tables is not asked of others."""
        asked = want if want == "path" or artifact.format in ("parquet", LIST) else ""
        return self.load(artifact, objects, asked)

    def _load_other(self, artifact: Artifact, objects: Objects, want: str) -> Any:
        kind = artifact.format
        if kind == "skops":
            from penstock.formats import skops

            return skops.load(artifact, objects, self._trust | self._project_types)
        if kind == "npy":
            from penstock.formats import npy

            return npy.load(artifact, objects)
        if kind == "bytes":
            return objects.read(artifact.digest)
        if kind == "path":
            from penstock.formats import paths

            return paths.load(artifact, objects, self._scratch_folder())
        if kind in ("json", "bundle"):
            # A bundle's manifest is canonical JSON too; what it names is read file by file.
            return canonical_json.load(artifact, objects)
        plugin = self._found().get(kind)
        if plugin is None:
            raise FormatError(
                f"No format {bounded(kind, 40)!r} is installed here.",
                hint="Install the package that wrote it, or upgrade Penstock.",
            )
        return plugin.load(artifact, objects, want)

    def _scratch_folder(self) -> str:
        """A folder for paths that are read back; it goes when the registry or the process does."""
        if self._scratch is None:
            import tempfile
            import weakref

            self._scratch = tempfile.mkdtemp(prefix="penstock-")
            weakref.finalize(self, _remove_own, self._scratch, os.getpid())
        return self._scratch

    def _found(self) -> dict[str, Format]:
        """Formats of other packages, looked for once and only when nothing of ours fits."""
        if self._plugins is None:
            from importlib.metadata import entry_points

            from penstock.formats.format import ENTRY_POINTS

            self._plugins = {}
            for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
                made = point.load()
                plugin: Format = made() if isinstance(made, type) else made
                self._plugins[plugin.name] = plugin
        return self._plugins


def _remove_own(folder: str, pid: int) -> None:
    """Remove a folder, unless this is a fork of the process that made it."""
    if os.getpid() == pid:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def _is_estimator(value: Any) -> bool:
    """Whether this is an estimator, fitted or not (an instance; a class has no parameters yet)."""
    return not isinstance(value, type) and callable(getattr(value, "fit", None)) and hasattr(value, "get_params")


def _refusal(value: Any, key: tuple[str, str]) -> FormatError:
    kind = type(value)
    name = bounded(f"{kind.__module__}.{kind.__qualname__}", 200)
    if isinstance(value, type):
        what = f"The class {bounded(value.__qualname__, 200)} was returned, not an instance of it."
        return FormatError(what, hint=f"Return {bounded(value.__name__, 100)}(…).")
    return FormatError(
        f"No format keeps values of type {name}.",
        hint=_NOT_YET.get(
            key,
            "Return a table, an estimator, an array, bytes, a path or plain Python values; or add a format: a class "
            "with `name`, `takes`, `dump` and `load` (penstock.formats.format.Format) under the entry-point group "
            '"penstock.formats" of a package.',
        ),
    )
