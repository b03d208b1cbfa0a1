"""--result FILE: the verdict on every hidden test, for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import ID, REFERENCE, Suite

from pytest_llmgrind.report import result

SCHEMA = json.loads(Path(result.__file__).with_name("result.schema.json").read_text("utf-8"))


def written(suite: Suite, *args: str) -> dict[str, Any]:
    """What a run over the virtual challenge writes."""
    suite.run("challenges", "--result=result.json", *args)
    return json.loads((suite.pytester.path / "result.json").read_text("utf-8"))


def test_a_result_has_the_keys_of_its_schema(suite: Suite) -> None:
    """On every level: of the document, of a challenge, of a test."""
    suite.challenge()
    suite.solve()

    document = written(suite)

    (challenge,) = document["challenges"]
    assert list(document) == SCHEMA["required"]
    assert list(challenge) == SCHEMA["$defs"]["challenge"]["required"]
    assert list(challenge["tests"][0]) == SCHEMA["$defs"]["test"]["required"]
    assert (challenge["id"], challenge["passed"]) == (ID, True)


def test_a_test_that_was_left_out_is_not_passed(suite: Suite) -> None:
    """Deselected tests stand in the file, and the challenge is not passed."""
    suite.challenge()
    suite.solve(REFERENCE)

    (challenge,) = written(suite, "-k", "pair")["challenges"]

    verdicts = {test["name"]: test["verdict"] for test in challenge["tests"]}
    words = SCHEMA["$defs"]["test"]["properties"]["verdict"]["enum"]
    assert set(verdicts.values()) == {"passed", "not run"}
    assert verdicts["test_sum_of_a_pair"] == "passed"
    assert set(verdicts.values()) <= set(words)
    assert not challenge["passed"]
