"""What qualifies a verdict, and who reigns, is on the screen: rows that neither has seen, a champion set by hand."""


def test_notes_of_a_verdict_are_printed_and_an_idle_run_names_the_champion(empty):
    empty.write("churn.py", empty.declared.replace("gate=[", 'refit="all",\n    gate=['))
    assert empty.call("run").code == 0
    empty.write("customers.csv", empty.table(900))
    empty.write("churn.py", empty.declared.replace("C=1.0", "C=0.001"))
    again = empty.call("run", "--allow-dirty")
    note = "churn@1 was refitted on all rows that there were; "
    assert f"note  {note}" in again.out, again.out + again.err
    shown = empty.call("show", "churn@2").out
    assert f"    note: {note}" in shown, shown
    assert again.code == 7  # so the champion stays, and an idle run says who that is
    assert " · churn@2 · the champion is churn@1 · " in empty.call("run").out
    assert empty.call("promote", "churn@2", "--because", "a person decides", "--force").code == 0
    empty.call("run")
    idle = empty.call("run").out
    assert idle.startswith("nothing to do: all steps reused; no look spent · churn@2 · "), idle
    assert "the champion is" not in idle
