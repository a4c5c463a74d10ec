"""The page "Share a ledger" does what it says: who is not of the release role moves no champion, by no program."""

import os
import re
from pathlib import Path

import psycopg
import pytest

from penstock.core.run import Entry, Group, Run, SourceStat
from penstock.errors import StoreError
from penstock.store.postgres_ledger import PostgresLedger
from penstock.testing.ledger_suite import CODE, make_decided, make_result, make_step_run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "share-a-ledger.md"
ROLES = ("penstock_user", "penstock_release")


@pytest.fixture
def people(postgres, postgres_server):
    """Ledgers of ana, who runs, and of ci, which releases: after the page's own SQL."""
    PostgresLedger(postgres).close()
    database = postgres.rpartition("/")[2]
    [sql] = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    with psycopg.connect(postgres) as admin:
        admin.execute(sql)
    names = {"ana": f"ana{os.getpid()}", "ci": f"ci{os.getpid()}"}
    for name, role in zip(names.values(), ROLES, strict=True):
        postgres_server.execute(f"CREATE ROLE {name} LOGIN IN ROLE {role}")
    ledgers = {who: PostgresLedger(postgres.replace("penstock@", f"{name}@")) for who, name in names.items()}
    yield ledgers
    for ledger in ledgers.values():
        ledger.close()
    for name in (*names.values(), *ROLES):
        postgres_server.execute(f"DROP OWNED BY {name}", database=database)
        postgres_server.execute(f"DROP ROLE {name}")


def work(ledger):
    """All that a run does: everything but a release."""
    result = make_result("x", inline=True)
    for _ in range(2):
        ledger.commit(
            Group(
                runs=[Run("r", "f", "run", "done", 1.0)],
                codes={CODE: {"a": "b"}},
                results=[result],
                step_runs=[make_step_run(result, "r", "s")],
                decided=[("f", make_decided(result, "s"))],
                sources=[SourceStat("f", (1, 2, 3), CODE)],
            )
        )
    for stream in ("version", "look", "verdict", "alias/challenger", "window"):
        ledger.append([Entry(f"churn/{stream}", ledger.streams().get(f"churn/{stream}", 0) + 1, {})])
    assert ledger.makers(result.outputs[0].digest) == [result]
    assert ledger.integrity() == []
    assert ledger.forget([result.recipe]) == 1
    assert ledger.server()["writable"] is True


MOVE = {"version": 1, "previous": None}


@pytest.mark.parametrize("stream", ["alias/champion", "alias/prod", "deployment"])
def test_only_the_release_role_moves_champions(people, stream):
    work(people["ana"])
    work(people["ci"])
    assert (people["ana"].may_release(), people["ci"].may_release()) == (False, True)
    entry = Entry(f"churn/{stream}", 1, MOVE)
    with pytest.raises(StoreError, match="may not do that") as caught:
        people["ana"].append([entry])
    assert "Share a ledger" in caught.value.hint
    assert people["ana"].streams(f"churn/{stream}") == {}
    assert len(people["ci"].append([entry])) == 1
    assert people["ana"].stream(f"churn/{stream}")[0].body == MOVE


@pytest.mark.parametrize("who", ["ana", "ci"])
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entry SET why = 'another'",
        "DELETE FROM entry",
        "TRUNCATE entry",
        "UPDATE meta SET value = '9'",
        "DELETE FROM step_run",
        "DELETE FROM idempotency",
        "ALTER TABLE entry DISABLE ROW LEVEL SECURITY",
        "DROP TABLE entry",
    ],
)
def test_nobody_changes_what_is_on_record(people, who, sql):
    people[who].append([Entry("churn/version", 1, {})])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        people[who]._database._connection.execute(sql)
    assert len(people[who].stream("churn/version")) == 1
