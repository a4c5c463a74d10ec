"""kill -9 at random moments of a writer at work: nothing acknowledged is lost, nothing is torn."""

import pytest

from penstock.testing.crash import VERBS, Acknowledged, breaches, kill_round


def rounds(folder, number, *, first_seed=0, fresh_every=25, **given):
    """Kill a writer again and again on one store, look after each; give acknowledgements and breaches."""
    total, found = 0, []
    for start in range(0, number, fresh_every):
        root, acknowledged = str(folder / f"{start}"), Acknowledged()
        for seed in range(start, min(start + fresh_every, number)):
            kill_round(root, first_seed + seed, acknowledged, **given)
            found += [f"seed {first_seed + seed}: {breach}" for breach in breaches(root, acknowledged)]
        found += acknowledged.failed
        total += len(acknowledged)
    return total, found


def test_fifteen_kills(tmp_path):
    total, found = rounds(tmp_path, 15)
    assert found == []
    assert total > 50


@pytest.mark.parametrize("seed", range(8))
def test_a_kill_inside_the_first_start(tmp_path, seed):
    """Every kill inside `init` leaves something that the next start completes."""
    acknowledged = Acknowledged()
    kill_round(str(tmp_path), seed, acknowledged, longest_s=0.008)
    assert breaches(str(tmp_path), acknowledged) == []


@pytest.mark.parametrize(("fault", "verbs"), [("in-place", ("put",)), ("no-rename", VERBS)])
def test_control_the_checker_turns_red(tmp_path, fault, verbs):
    assert rounds(tmp_path, 8, fault=fault, verbs=verbs, longest_s=0.06)[1] != []


@pytest.mark.campaign
@pytest.mark.timeout(400)
def test_five_hundred_kills(tmp_path, report):
    total, found = rounds(tmp_path, 500, first_seed=1_000, longest_s=0.12)
    report(f"500 kills, seeds 1000-1499: {total} acknowledged, {len(found)} breaches")
    assert found == []
    assert total > 1_000
