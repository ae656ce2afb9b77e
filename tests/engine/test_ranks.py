"""Many ranks, every ZeRO stage: the α gradients and the θ of one process. Each of DeepSpeed's traps has a case.

The ranks of one size are started once and run all their cases. The reference is the local engine on the same
global batches.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avil_fast.engine.local import LocalEngine
from avil_fast.engine.parameters import Granularity
from avil_fast.engine.settings import EngineSettings
from avil_fast.methods import find
from avil_fast.tasks.task import Task
from tests.engine.ranks.cases import TARGET, Case, Encoder, model, repeated, rounds, tasks
from tests.engine.ranks.launch import on_ranks
from tests.engine.ranks.memory import MemoryCase, Wide, whole_pages
from tests.engine.ranks.methods import MethodCase, after_rounds
from tests.engine.ranks.nan import NanCase, after_nan
from tests.engine.ranks.worker import RepeatCase
from tests.speed import SLOW, slow_but

Found = Callable[[int], dict[str, list[Any]]]

OFFLOAD = {"offload_optimizer": {"device": "cpu", "pin_memory": False}}
CLIP = {"clip_norm": 0.05}
SMALL = {"sub_group_size": 300, "stage3_param_persistence_threshold": 0}
BF16 = {"bf16": {"enabled": True}}

STAGES = {f"stage-{stage}": Case(stage) for stage in range(4)}
LAYERS = {f"layers-{stage}": Case(stage, granularity="layer") for stage in range(4)}
CASES = {
    1: STAGES | LAYERS,
    4: STAGES | LAYERS | {"accumulate-3": Case(3, parts=2), "small-3": Case(3, zero=SMALL)},
    2: STAGES
    | LAYERS
    | {f"layers-accumulate-{stage}": Case(stage, CLIP, parts=2, granularity="layer") for stage in range(4)}
    | {f"layers-offload-{stage}": Case(stage, zero=OFFLOAD, granularity="layer") for stage in (1, 2, 3)}
    | {
        "layers-small-3": Case(3, zero=SMALL, granularity="layer"),
        "layers-overlap-2": Case(2, zero={"overlap_comm": True, "reduce_bucket_size": 500}, granularity="layer"),
        "layers-round-robin-2": Case(2, zero={"round_robin_gradients": True}, granularity="layer"),
        "layers-trained-head-2": Case(2, scale_target_head=False, granularity="layer"),
    }
    | {f"clip-{stage}": Case(stage, CLIP) for stage in range(4)}
    | {f"accumulate-{stage}": Case(stage, parts=2) for stage in range(4)}
    | {f"reset-{stage}": Case(stage, {"moments": "reset"}) for stage in (0, 2, 3)}
    | {f"sgd-{stage}": Case(stage, {"name": "sgd", "momentum": 0.9}) for stage in (0, 2, 3)}
    | {f"offload-{stage}": Case(stage, CLIP, zero=OFFLOAD) for stage in (1, 2, 3)}
    | {f"offload-accumulate-{stage}": Case(stage, parts=2, zero=OFFLOAD) for stage in (2, 3)}
    | {
        "small-3": Case(3, CLIP, zero=SMALL),
        "small-offload-3": Case(3, CLIP, zero=SMALL | OFFLOAD),
        "offload-param-3": Case(3, zero=OFFLOAD | {"offload_param": {"device": "cpu", "pin_memory": False}}),
        "offload-param-alone-3": Case(3, zero={"offload_param": {"device": "cpu", "pin_memory": False}}),
        "overlap-1": Case(1, zero={"overlap_comm": True}),
        "overlap-2": Case(2, zero={"overlap_comm": True, "reduce_bucket_size": 500}),
        "overlap-3": Case(3, zero={"overlap_comm": True, "reduce_bucket_size": 500}),
        "round-robin-2": Case(2, zero={"round_robin_gradients": True}),
        "scattered-2": Case(2, zero={"contiguous_gradients": False}),
        "trained-head-2": Case(2, scale_target_head=False),
    },
}
LOW = {
    f"bf16-{stage}{suffix}": Case(stage, zero=zero, settings=BF16)
    for stage, suffix, zero in (
        (0, "", {}),
        (1, "", {}),
        (2, "", {}),
        (2, "-offload", OFFLOAD),
        (3, "", {}),
        (3, "-small", SMALL),
        (3, "-offload", OFFLOAD),
    )
}
COMPILED = {
    "cpu-adam-1": Case(1, {"backend": "deepspeed"}),
    "cpu-adam-2": Case(2, {"backend": "deepspeed"} | CLIP),
    "cpu-adam-3": Case(3, {"backend": "deepspeed"}),
    "cpu-adam-offload-2": Case(2, {"backend": "deepspeed"}, zero=OFFLOAD),
    "cpu-adam-small-offload-3": Case(3, {"backend": "deepspeed"}, zero=SMALL | OFFLOAD),
    "cpu-adam-reset-2": Case(2, {"backend": "deepspeed", "moments": "reset", "name": "adam"}),
    "cpu-adam-reset-offload-3": Case(3, {"backend": "deepspeed", "moments": "reset"}, zero=OFFLOAD),
}
BUCKET = 100_000
BUCKETS = {"reduce_bucket_size": BUCKET, "allgather_bucket_size": BUCKET}
MEMORY = {f"memory-{stage}": MemoryCase(Case(stage, zero=BUCKETS)) for stage in range(4)} | {
    f"memory-offload-{stage}": MemoryCase(Case(stage, zero=BUCKETS | OFFLOAD)) for stage in (2, 3)
}
SGD = {"name": "sgd", "momentum": 0.9}
NAN = (
    {f"nan-{stage}": NanCase(Case(stage)) for stage in range(4)}
    | {f"nan-sgd-{stage}": NanCase(Case(stage, SGD)) for stage in (0, 2)}
    | {f"nan-bf16-{stage}": NanCase(Case(stage, settings=BF16)) for stage in range(4)}
    | {f"nan-offload-{stage}": NanCase(Case(stage, zero=OFFLOAD)) for stage in (1, 2, 3)}
    | {
        "nan-accumulate-0": NanCase(Case(0, parts=2)),
        "nan-clip-2": NanCase(Case(2, CLIP)),
        "nan-small-3": NanCase(Case(3, zero=SMALL)),
        "nan-bf16-offload-2": NanCase(Case(2, zero=OFFLOAD, settings=BF16)),
    }
)
METHODS = {
    f"{method}-{stage}": MethodCase(Case(stage), method)
    for method in ("multitask", "forkmerge", "aux_weighting")
    for stage in (0, 2, 3)
} | {
    f"{method}-layers-{stage}": MethodCase(Case(stage, granularity="layer"), method)
    for method in ("avil", "taps")
    for stage in range(4)
}
REPEAT = {f"repeat-{stage}": RepeatCase(Case(stage, settings=BF16)) for stage in range(4)}
QUICK = [(1, "stage-3"), *[(2, f"stage-{stage}") for stage in range(4)], (2, "layers-3")]
EXACT = [
    pytest.param(
        ranks,
        name,
        marks=[pytest.mark.xdist_group(f"{ranks} ranks"), *([] if (ranks, name) in QUICK else [SLOW])],
        id=f"{ranks}-ranks-{name}",
    )
    for ranks, cases in CASES.items()
    for name in cases
]
two_ranks = partial(slow_but, "bf16-3", "nan-2", group="2 ranks")


@pytest.fixture(scope="session")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the ranks of a size found, by case; they are started when first asked for, and once.

    They run the cases of the tests that were chosen.
    """
    chosen = {
        getattr(item, "callspec", None) and item.callspec.params.get("name") for item in request.session.items
    }

    @cache
    def start(ranks: int) -> dict[str, list[Any]] | AssertionError:
        cases = CASES[ranks] | (LOW | MEMORY | NAN | REPEAT | METHODS if ranks == 2 else {})
        cases = {name: case for name, case in cases.items() if name in chosen}
        try:
            return on_ranks(ranks, cases, tmp_path_factory.mktemp("ranks") / "out", timeout=900)
        except AssertionError as failure:
            return failure

    def results(ranks: int) -> dict[str, list[Any]]:
        outcome = start(ranks)
        if isinstance(outcome, AssertionError):
            raise outcome
        return outcome

    return results


def reference(case: Case) -> dict[str, Any]:
    """What one process finds; ZeRO's stage and the number of parts should make no difference."""
    return alone(json.dumps(case.optimizer), case.bf16, case.scale_target_head, case.granularity)


@cache
def alone(optimizer: str, bf16: bool, scale_target_head: bool, granularity: Granularity) -> dict[str, Any]:
    network = model().bfloat16() if bf16 else model()
    case = Case(optimizer=json.loads(optimizer), scale_target_head=scale_target_head, granularity=granularity)
    return rounds(local_engine(case, network))


def local_engine(case: Case, network: Encoder, trained: list[Task] | None = None) -> LocalEngine:
    config, deltas = case.optimizer_config(), case.deltas_config()
    settings = EngineSettings(
        config, deltas, scale_target_head=case.scale_target_head, granularity=case.granularity
    )
    return LocalEngine(network, trained or tasks(), TARGET, settings)


def flat(value: Any) -> Tensor:
    """Any nest of numbers and tensors, in one row."""
    if isinstance(value, Tensor):
        return value.double().flatten()
    if isinstance(value, dict):
        value = list(value.values())
    return torch.cat([flat(item) for item in value]) if isinstance(value, list) else torch.tensor([float(value)])


def difference(ours: Any, theirs: Any) -> float:
    return float((flat(ours) - flat(theirs)).abs().max())


@pytest.mark.parametrize(("ranks", "name"), EXACT)
def test_ranks_find_what_one_process_finds(ranks: int, name: str, found: Found) -> None:
    expected = reference(CASES[ranks][name])
    for rank, ours in enumerate(found(ranks)[name]):
        assert len(ours["gradients"]) == len(expected["gradients"]) == 6
        for key, value in expected.items():
            assert difference(ours[key], value) <= 1e-6, f"{key} on rank {rank}"
        assert difference(ours["closed"], expected["restored"]) <= 1e-6


@pytest.mark.parametrize(("ranks", "name"), EXACT)
def test_base_and_bank_are_shared_out(ranks: int, name: str, found: Found) -> None:
    """(4 + n·e)·N/R bytes, and a little for alignment: the parameters here are few."""
    shared = sum(p.numel() for n, p in model().named_parameters() if p.requires_grad and "heads" not in n)
    head = sum(p.numel() for p in model().heads["t"].parameters()) if CASES[ranks][name].scale_target_head else 0
    for ours in found(ranks)[name]:
        memory, groups = ours["memory"], len(ours["groups"])
        assert groups == (4 if CASES[ranks][name].granularity == "layer" else 1)
        assert memory.base == pytest.approx(4 * (shared + head) / ranks, rel=0.02, abs=4 * 130 * groups)
        assert memory.bank == pytest.approx(4 * (3 * shared + head) / ranks, rel=0.02, abs=4 * 4 * 130 * groups)


@pytest.mark.parametrize("name", two_ranks(of=LOW))
def test_in_bf16_the_model_is_the_cast_master(name: str, found: Found) -> None:
    """Bit for bit, whatever was last written: a step, θ + Σ α_i δ_i, a restored snapshot."""
    expected = reference(LOW[name])
    for ours in found(2)[name]:
        assert ours["casts"] == [True] * 4
        assert difference(ours["gradients"], expected["gradients"]) <= 0.02
        assert difference(ours["theta"], expected["theta"]) <= 0.03


@pytest.mark.parametrize("name", two_ranks(of=MEMORY))
def test_a_rank_holds_its_share_and_alpha_needs_no_more_than_training(name: str, found: Found) -> None:
    """(4 + n·e)·N/R bytes; and in the α phase one of ZeRO's buckets beyond task training at most."""
    model = Wide()
    shared, head = (sum(p.numel() for p in part.parameters()) for part in (model.layers, model.heads["a"]))
    for ours in found(2)[name]:
        assert ours["base"] == pytest.approx(4 * (shared + head) / 2, rel=0.01)
        assert ours["bank"] == pytest.approx(4 * (3 * shared + head) / 2, rel=0.01)
        assert ours["alpha"] <= ours["training"] + whole_pages(4 * BUCKET)


@pytest.mark.parametrize("name", two_ranks(of=NAN))
def test_a_dev_loss_that_is_not_finite_loses_no_write(name: str, found: Found) -> None:
    case = NAN[name].case
    expected = after_nan(local_engine(case, model().bfloat16() if case.bf16 else model()))
    for ours in found(2)[name]:
        assert difference(ours["applied"], expected) <= (0.03 if case.bf16 else 1e-6)


@pytest.mark.parametrize("name", two_ranks(of=NAN))
def test_a_batch_that_is_poisoned_on_one_rank_changes_nothing_on_any(name: str, found: Found) -> None:
    """Bit for bit."""
    for ours in found(2)[name]:
        with_it, without_it = ours["with"], ours["without"]
        for key in ("theta", "losses", "norms"):
            assert difference(with_it[key], without_it[key]) == 0.0, key
        assert with_it["rejected"] == [[False, True, False]] * 3
        assert with_it["in a row"] == [0, 0, 0]
        assert without_it["rejected"] == [[False, False]] * 3


@pytest.mark.parametrize("name", two_ranks(of=METHODS))
def test_a_method_finds_on_ranks_what_it_finds_on_one_process(name: str, found: Found) -> None:
    """The losses of all tasks in one turn, and a target whose head is shared, among them."""
    method = METHODS[name].method
    engine = local_engine(METHODS[name].case, model(), find(method).trained(tasks(), TARGET))
    expected = after_rounds(engine, method)
    for ours in found(2)[name]:
        for key, value in expected.items():
            assert difference(ours[key], value) <= 1e-5, key


@pytest.mark.parametrize("name", two_ranks(of=COMPILED))
def test_deepspeed_s_adam_is_torch_s(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if not request.config.getoption("--deepspeed-ops"):
        pytest.skip("compiles for a minute or two: run with --deepspeed-ops")
    case = COMPILED[name]
    expected = reference(replace(case, optimizer={k: v for k, v in case.optimizer.items() if k != "backend"}))
    for ours in on_ranks(2, {name: case}, tmp_path / "out", timeout=600)[name]:
        for key, value in expected.items():
            assert difference(ours[key], value) <= 1e-5 * max(1.0, float(flat(value).abs().max())), key


def test_many_dev_batches_in_bf16_weigh_as_one_alone() -> None:
    one, many = repeated(local_engine(Case(), model().bfloat16()))
    assert many == pytest.approx(one, rel=1e-3)


@pytest.mark.parametrize("name", two_ranks(of=REPEAT))
def test_many_dev_batches_in_bf16_weigh_as_one(name: str, found: Found) -> None:
    for one, many in found(2)[name]:
        assert many == pytest.approx(one, rel=5e-3)
