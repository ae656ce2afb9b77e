"""One rank of a parity test: runs cases and writes what it found. Started by `launch.py`."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_get_full_fp32_param

from avil_fast.config import OptimizerConfig, TrainConfig
from avil_fast.engine.data_parallel import DataParallelEngine
from avil_fast.engine.process_group import joined_ranks, local_device
from avil_fast.engine.ranks import Ranks
from avil_fast.engine.settings import EngineSettings
from avil_fast.engine.zero.config import resolve
from avil_fast.engine.zero.engine import ZeroEngine
from avil_fast.engine.zero.model_access import whole
from avil_fast.tasks.task import Task
from tests.engine.ranks.cases import Case, model, repeated, rounds, tasks

CPU = torch.device("cpu")


def engine_of(
    case: Case,
    ranks: Ranks,
    network: torch.nn.Module | None = None,
    trained: list[Task] | None = None,
    optimizer: OptimizerConfig | None = None,
) -> Any:
    """An engine for a case on these ranks, by default with the parity tests' model and tasks."""
    network, trained = network or model(), trained or tasks()
    optimizer, deltas = optimizer or case.optimizer_config(), case.deltas_config()
    target = next(i for i, task in enumerate(trained) if task.dev is not None)
    settings = EngineSettings(
        optimizer=optimizer,
        deltas=deltas,
        scale_target_head=case.scale_target_head,
        parts=case.parts,
        granularity=case.granularity,
    )
    if case.stage == 0:
        if case.bf16:
            network = network.bfloat16()
        return DataParallelEngine(network, trained, target, settings, ranks)
    # Buckets of the usual size would take 2 GB each, and the NaNs in them minutes.
    zero_optimization = {"stage": case.stage, "reduce_bucket_size": 10_000} | case.zero
    of_file = {"zero_optimization": zero_optimization} | case.settings
    run = TrainConfig(optimizer=optimizer, gradient_accumulation_steps=case.parts)
    zero = resolve(of_file, run, ranks.size)
    return ZeroEngine(network, trained, target, settings, ranks, CPU, zero)


def is_cast(engine: Any) -> bool:
    """Whether every low-precision parameter is its master's cast, bit for bit."""
    if isinstance(engine, DataParallelEngine):
        return all(torch.equal(p.low[0], p.master.bfloat16()) for p in engine._parameters.all)
    same = []
    for parameter in engine.model.parameters():
        if parameter.requires_grad:
            master = safe_get_full_fp32_param(parameter)
            with whole(parameter):
                same.append(torch.equal(parameter, master.bfloat16()))
    return all(same)


def run(case: Case, ranks: Ranks) -> dict[str, Any]:
    engine = engine_of(case, ranks)
    casts: list[bool] = []
    found = rounds(engine, look=lambda: casts.append(is_cast(engine)) if case.bf16 else None)
    found["casts"] = casts
    found["memory"] = engine.memory()
    engine.close()
    found["closed"] = {name: p.detach().float().clone() for name, p in engine.model.named_parameters()}
    return found


@dataclass(frozen=True)
class RepeatCase:
    """A case whose dev set is one batch many times over."""

    case: Case

    def __call__(self, ranks: Ranks) -> list[list[float]]:
        engine = engine_of(self.case, ranks)
        found = repeated(engine)
        engine.close()
        return found


def main(jobs: Path, out: Path, device: torch.device) -> None:
    torch.set_num_threads(1)
    # Memory that nobody wrote holds NaN, so that no sum may touch it.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    cases: dict[str, Any] = pickle.loads(jobs.read_bytes())
    with joined_ranks(local_device(device), timeout=600, always=True) as ranks:
        for name, case in cases.items():
            found = case(ranks) if callable(case) else run(case, ranks)
            (out / f"{name}.{ranks.rank}").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), torch.device(sys.argv[3]))
