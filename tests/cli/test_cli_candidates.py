"""Several candidates on the command line: each is a try, `--only` tries one, wrong names are told."""

import json
import re

CANDIDATES = 'model={"plain": LogisticRegression(), "dummy": DummyClassifier()},'


def test_each_candidate_is_a_row_and_one_can_be_tried_alone(empty):
    empty.write("churn.py", empty.declared.replace("model=LogisticRegression(C=1.0),", CANDIDATES))
    both = empty.call("try", "--note", "both")
    assert both.code == 0, both.err
    assert "1. plain: roc_auc" in both.out
    assert "fit " in both.out
    rows = [line for line in both.out.splitlines() if re.search(r"run:\w{4}", line)]
    assert [re.search(r"(plain|dummy): \w+", row)[0] for row in rows] == [
        "plain: LogisticRegression",
        "dummy: DummyClassifier",
    ]
    alone = empty.call("try", "--only", "dummy", "--json")
    told = json.loads(alone.out)
    assert (alone.code, told["try"]["candidate"], len(told["board"])) == (0, "dummy", 2)
    wrong = empty.call("try", "--only", "plan")
    assert (wrong.code, "no such candidate" in wrong.err, '"plain"' in wrong.err) == (2, True, True)


def test_a_candidate_that_raises_fails_the_run_with_its_error(empty):
    broken = CANDIDATES.replace("DummyClassifier()", 'DummyClassifier(strategy="constant")')
    empty.write("churn.py", empty.declared.replace("model=LogisticRegression(C=1.0),", broken))
    ended = empty.call("run")
    assert ended.code == 5
    assert "evaluate.dummy" in ended.out + ended.err
    assert "constant" in ended.err
