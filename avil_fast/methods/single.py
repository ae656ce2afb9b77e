"""Single-task training: what the target reaches without its auxiliaries."""

from __future__ import annotations

from avil_fast.methods.base import Method, RoundRecord


class Single(Method):
    """The target alone at the matched total budget: in a round it takes the steps of all tasks together."""

    keeps_deltas = False

    def round(self, round_: int) -> RoundRecord:
        return target_alone(self, round_, self.steps())

    def steps(self) -> int:
        """Optimizer steps of a round."""
        return self.data.steps_per_round


class SingleOwn(Single):
    """The target alone at its own budget: the steps that it takes among its auxiliaries."""

    def steps(self) -> int:
        return self.data.steps(self.engine.target)


def target_alone(method: Method, round_: int, steps: int) -> RoundRecord:
    """A round of so many steps that trains the target alone."""
    target, n = method.engine.target, len(method.engine.tasks)
    method.begin()
    run = method.take_turn(target, round_, task_of_step=[target] * steps, restore=False)
    only = [1.0 if task == target else 0.0 for task in range(n)]
    method.weight = only
    norms = [run.delta_norm if task == target else 0.0 for task in range(n)]
    losses = [method.so_far.loss[0] if task == target else None for task in range(n)]
    return RoundRecord(alpha=only, weight=only, delta_norm=norms, train_loss=losses)
