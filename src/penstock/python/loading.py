"""`ps.load`: a version's estimator, read from the store and verified."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.ports import Home


def load(name: str, *, env: str | None = None) -> Any:
    """The fitted scikit-learn estimator of a version.

    Parameters
    ----------
    name : str
        "churn@7", "churn@champion" or "churn" (its champion), in the project of the working directory.
    env : str, optional
        Environment whose store and ledger hold.

    Returns
    -------
    estimator
        The same type as was fitted. Every file of it has the digest that the version names; nothing is unpickled.

    Raises
    ------
    UnknownNameError
        There is no such version.
    UntrustedTypeError
        It holds a type that this project's configuration does not trust.
    UsageError
        It holds a type of the project's own, whose code here is not that of the version.
    CorruptObjectError, MissingObjectError
    """
    from penstock.lifecycle.own import check_code, types_of
    from penstock.lifecycle.versions import parts_of, resolve
    from penstock.project import open_home, open_store

    home = open_home(".", environment=env, make=False)
    try:
        version = resolve(home.ledger, name)
        files = parts_of(home, version.bundle)
        formats, own = home.formats, types_of(home, files)
        if own and home.config.trusts_own:
            check_code(home, version)
            _, formats = open_store(home.config, tuple(one.replace(":", ".") for one in own))
        with _importable(home, files if own else {}):
            return formats.load(files["estimator"], home.objects)
    finally:
        home.ledger.close()


@contextlib.contextmanager
def _importable(home: Home, files: Mapping[str, Artifact]) -> Iterator[None]:
    """Let the project's own modules be imported, wherever below its root they and this process are."""
    from penstock.lifecycle.own import FILE

    folders = home.formats.load(files[FILE], home.objects)["folders"] if FILE in files else ()
    before = list(sys.path)
    sys.path += [os.path.normpath(os.path.join(home.config.root, folder)) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before
