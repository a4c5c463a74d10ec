"""`ps.load`: a version's estimator, read from the store and verified."""

from __future__ import annotations

from typing import Any


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
        It holds a type that this project's configuration does not trust, or a class of the project whose code here is
        not that of training.
    CorruptObjectError, MissingObjectError
    """
    from penstock.lifecycle.own import estimator_of
    from penstock.lifecycle.versions import resolve
    from penstock.project import open_home

    home = open_home(".", environment=env, make=False)
    try:
        return estimator_of(home, resolve(home.ledger, name))
    finally:
        home.ledger.close()
