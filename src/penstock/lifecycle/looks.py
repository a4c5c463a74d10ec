"""Looks at the hold-out, as they stand on the ledger: which hold-out, and what the next look may spend of alpha."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_value
from penstock.core.flow import Graph
from penstock.core.ports import Ledger
from penstock.core.run import Entry
from penstock.core.tree import rebuilt
from penstock.lifecycle.versions import stream
from penstock.stats.looks import alpha_left, next_level

COMPARED = "compare"
"""Why a look was taken by `penstock compare`."""
OVERTAKEN = "other runs looked at the same hold-out meanwhile and spent of its α"
_OF_THE_FIGHT = ("looks", "moves")
"""What is told of the champion that makes no other fight of it."""


def generation_of(graph: Graph) -> str:
    """Name of the hold-out of a declaration: twelve digits, another where another rule holds the rows out."""
    return digest_value("holdout", graph.about.get("holdout", {}))[:12]


def fight_of(graph: Graph, known: Mapping[tuple[str, str], Artifact], given: Mapping[str, Any]) -> str:
    """Digest of all that a comparison is made from: of an equal one nothing new can be learned.

    The code of the comparison is no part of it, nor are level and number of the look.

    Parameters
    ----------
    graph : Graph
    known : mapping
        (step, output) → artifact, as far as the run has come.
    given : dict
        "fitted", "seen": digests; "about": dict.
    """
    about = {name: value for name, value in given["about"].items() if name not in _OF_THE_FIGHT}

    def told(tree: Any) -> Any:
        if type(tree) is list and tree and tree[0] == "ref":
            artifact = known.get((tree[1], tree[2]))
            return ["artifact", artifact.digest] if artifact is not None else ["ref"]
        return rebuilt(tree, told)

    return digest_value("fight", [told(graph.node("compare").tree), {**given, "about": about}])


def next_look(ledger: Ledger, workflow: str, generation: str, fight: str) -> dict[str, Any]:
    """What the next look at a hold-out would be; the look itself, where an equal fight is on record.

    Returns
    -------
    dict
        "generation"; "number": the how-manieth look at this hold-out; "tests": searches before it; "share": the part
        of alpha at which it decides, if it searches; "left": the part of alpha that was left before it.
    """
    looks = [one for one in ledger.stream(stream(workflow, "look")) if _is_of(one, generation)]
    same = next((one for one in looks if fight and one.body.get("fight") == fight), None)
    if same is not None:
        return dict(same.body["looks"])
    won = [bool(one.body.get("won")) for one in looks if _searched(one)]
    return {
        "generation": generation,
        "number": len(looks) + 1,
        "tests": len(won),
        "share": next_level(won, 1.0),
        "left": alpha_left(won, 1.0),
    }


def standing(ledger: Ledger, workflow: str, generation: str) -> dict[str, Any]:
    """How a hold-out stands: "looks", of these "searches", and the part of alpha that is "left"."""
    after = next_look(ledger, workflow, generation, "")
    return {"looks": after["number"] - 1, "searches": after["tests"], "left": after["left"]}


def look_body(told: Mapping[str, Any], fight: str, *, search: bool, won: bool, again: bool) -> dict[str, Any]:
    """What a look's row says of the hold-out and of alpha.

    Parameters
    ----------
    told : dict
        From `next_look`.
    fight : str
    search, won : bool
        Whether a version was looked for that beats another, and whether it passed.
    again : bool
        An equal fight is on record: it spends nothing.
    """
    return {
        "generation": told["generation"],
        "fight": fight,
        "search": search and not again,
        "share": told["share"] if search and not again else 0.0,
        "won": won and search and not again,
        "looks": dict(told),
    }


def _is_of(look: Entry, generation: str) -> bool:
    """Whether a look was at this hold-out; of one that does not say, it is taken to be."""
    return bool(look.body.get("generation", generation) == generation)


def _searched(look: Entry) -> bool:
    """Whether a look counts as a test; one of a gate that does not say counts, and found nothing."""
    return bool(look.body.get("search", look.body.get("verdict") is not None))
