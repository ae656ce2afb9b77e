"""When the target's dev set joins its training data by default."""

from __future__ import annotations

import pytest
import torch

from tests.methods.models import CASES
from tests.methods.runs import fit, tasks_with_test


@pytest.mark.parametrize(("rounds", "held_out"), [(1, 1), (5, 5), (6, 1), (12, 1), (13, 2)])
def test_by_default_dev_joins_train_after_a_twelfth_of_six_rounds_or_more(rounds: int, held_out: int) -> None:
    case = CASES["linear"]()
    result, found = fit(case, tasks_with_test(case), rounds=rounds, steps_per_task=1)
    assert [row["dev_held_out"] for row in result.history] == [True] * held_out + [False] * (rounds - held_out)
    assert result.summary["dev_held_out"] == (held_out == rounds)
    _, expected = fit(case, tasks_with_test(case), rounds=rounds, steps_per_task=1, **{"alpha.rounds": held_out})
    assert torch.equal(found, expected)


def test_where_deltas_are_merged_to_the_end_it_is_a_third() -> None:
    case = CASES["linear"]()
    options = {"rounds": 7, "steps_per_task": 1, "alpha.settled": "merge"}
    result, _ = fit(case, tasks_with_test(case), **options)
    assert [row["dev_held_out"] for row in result.history] == [True] * 3 + [False] * 4


def test_by_default_dev_is_held_out_where_there_is_nothing_else_to_judge_by() -> None:
    case = CASES["linear"]()
    for tasks in (case.tasks(), tasks_with_test(case, as_datasets=False)):
        result, _ = fit(case, tasks, rounds=6, steps_per_task=1)
        assert [row["dev_held_out"] for row in result.history] == [True] * 6
        assert result.summary["dev_held_out"] is True
    result, _ = fit(case, tasks_with_test(case), rounds=6, steps_per_task=1, preset="paper")
    assert result.summary["dev_held_out"] is True
