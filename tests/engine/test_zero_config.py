"""A DeepSpeed file beside a run's settings: filled in where it is silent, refused where it cannot be."""

import contextlib
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from avil_fast import AvilError
from avil_fast.config import TrainConfig
from avil_fast.engine.factory import zero_of
from avil_fast.engine.process_group import joined_ranks, local_device
from avil_fast.engine.zero import setup
from avil_fast.engine.zero.config import read, resolve
from avil_fast.run.launch import pick_device

CONFIGS = Path(__file__).parents[2] / "configs"


def run_config(**settings: Any) -> TrainConfig:
    return TrainConfig.model_validate({"batch_size": 32} | settings)


def zero(stage: int = 2, **settings: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage} | settings}


OFFLOAD = {"offload_optimizer": {"device": "cpu"}}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("zero*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_shipped_files_fit_the_run_as_they_are(path: Path, ranks: int) -> None:
    config = run_config(gradient_accumulation_steps=2, optimizer={"clip_norm": 0.5})
    settings = resolve(read(path), config, ranks, path.name).settings
    assert settings["zero_optimization"]["stage"] == int(path.stem.removeprefix("zero")[0])
    assert settings["gradient_clipping"] == 0.5
    assert settings["gradient_accumulation_steps"] == 2
    assert settings["train_batch_size"] == settings["train_micro_batch_size_per_gpu"] * 2 * ranks == 32


def test_the_shipped_files_are_the_promised_ones() -> None:
    assert {p.stem for p in CONFIGS.glob("zero*.json")} == {"zero0", "zero1", "zero2", "zero3", "zero3_offload"}


def test_a_batch_that_ranks_do_not_divide_is_no_contradiction() -> None:
    assert resolve(zero(), run_config(batch_size=33), 2).settings["train_batch_size"] == 32


def test_numbers_that_agree_with_the_run_are_taken() -> None:
    given: dict[str, Any] = {"fp16": {"enabled": False}}
    given |= {"train_batch_size": 32, "train_micro_batch_size_per_gpu": 16, "gradient_clipping": 0.0}
    assert resolve(zero() | given, run_config(), 2).stage == 2


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (zero() | {"optimizer": {"type": "Adam"}}, ["'optimizer'", "remove"]),
        (zero() | {"scheduler": {"type": "WarmupLR"}}, ["'scheduler'", "remove"]),
        (zero() | {"fp16": {"enabled": True}}, ["'fp16'", "bf16"]),
        (zero() | {"fp16": {"enabled": "auto"}}, ["'fp16'", "bf16"]),
        (zero() | {"fp16": True}, ["'fp16'", "bf16"]),
        (zero() | {"zero_optimisation": {}}, ["'zero_optimisation'", "remove"]),
        (zero() | {"amp": {"enabled": True}}, ["'amp'"]),
        ({"zero_optimization": 3}, ["zero_optimization is 3", "a section"]),
        (zero(4), ["stage is 4", "0, 1, 2 or 3"]),
        (zero(True), ["stage is True"]),
        (zero("2"), ["stage is '2'"]),
        (zero(2, reduce_bucket_size="big"), ["reduce_bucket_size is 'big'", "a number of elements"]),
        (zero(3, stage3_max_live_parameters=True), ["stage3_max_live_parameters is True"]),
        (zero(3, stage3_prefetch_bucket_size=-1), ["stage3_prefetch_bucket_size is -1", "at least 0"]),
        (zero(3, zero_hpz_partition_size=2), ["zero_hpz_partition_size is 2", "leave it out"]),
        (zero(3, zero_quantized_weights=True), ["zero_quantized_weights"]),
        (zero(3, zero_quantized_nontrainable_weights=True), ["zero_quantized_nontrainable_weights"]),
        (zero(3, zero_quantized_gradients=True), ["zero_quantized_gradients"]),
        (zero(2, zenflow={}), ["zenflow"]),
        (zero(2, compute_grad_norm=False), ["compute_grad_norm is False", "not finite"]),
        (
            zero() | {"bf16": {"enabled": True, "check_grad_overflow": False}},
            ["bf16.check_grad_overflow is False"],
        ),
        (zero(3, offload_optimizer={"device": "nvme"}), ["offload_optimizer.device is 'nvme'", "set cpu"]),
        (zero(3, offload_param={"device": "nvme"}), ["offload_param.device is 'nvme'"]),
        (zero(3, offload_optimizer={"device": "cpu", "ratio": 0.5}), ["ratio is 0.5", "set 1.0"]),
        (zero(3, offload_optimizer={"device": "cpu", "super_offload": True}), ["super_offload"]),
        (zero(0, **OFFLOAD), ["offload_optimizer", "stage 1, 2 or 3"]),
        (zero(2, offload_param={"device": "cpu"}), ["offload_param", "stage 3"]),
        (zero(2, offload_optimizer="cpu"), ["zero_optimization: offload_optimizer is 'cpu'", "a section"]),
        (zero() | {"train_batch_size": 64}, ["batch_size is 32", "train_batch_size 64"]),
        (zero() | {"gradient_accumulation_steps": 4}, ["gradient_accumulation_steps is 1", "4"]),
        (zero() | {"gradient_clipping": 2.0}, ["optimizer.clip_norm is 1.0", "gradient_clipping 2.0"]),
        (zero() | {"train_micro_batch_size_per_gpu": 8}, ["makes 16", "set batch_size=16"]),
        (zero() | {"train_micro_batch_size_per_gpu": None}, ["train_micro_batch_size_per_gpu is None"]),
        (zero(3, zero_hpz_partition_size="2"), ["zero_hpz_partition_size is '2'"]),
        (zero() | {"bf16": {"enabled": "auto"}}, ["bf16.enabled is 'auto'", "true or false"]),
        (zero() | {"bf16": {"enabled": True, "bf16_optimizer_states": True}}, ["bf16_optimizer_states"]),
        (
            zero(2) | {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "bf16"}},
            ["grad_accum_dtype is 'bf16'", "set fp32"],
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(settings: dict[str, Any], named: list[str]) -> None:
    config = run_config(optimizer={"clip_norm": 1.0})
    with pytest.raises(AvilError) as error:
        resolve(settings, config, 2, "zero.json")
    assert "\n" not in str(error.value)
    for part in [*named, "zero.json"]:
        assert part in str(error.value)


def test_in_bf16_gradients_add_up_in_fp32_and_stage_1_is_stage_2() -> None:
    """With that DeepSpeed's stage 1 is another optimizer, which keeps no partitions."""
    resolved = resolve(zero(1) | {"bf16": {"enabled": True}}, run_config(), 2)
    assert resolved.stage == 2
    assert resolved.settings["data_types"] == {"grad_accum_dtype": "fp32"}
    assert resolve(zero(1), run_config(), 2).stage == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (zero(2, overlap_com=True), "overlap_com"),
        (zero(2, reduce_bucket_size=-1), "reduce_bucket_size"),
        (zero(3, stage3_max_live_parameters="many"), "stage3_max_live_parameters"),
    ],
)
def test_what_deepspeed_refuses_is_a_sentence(settings: dict[str, Any], named: str) -> None:
    pytest.importorskip("deepspeed")
    with joined_ranks(torch.device("cpu"), timeout=600, always=True):
        setup.join(torch.device("cpu"))
        with pytest.raises(AvilError) as error:
            setup.check(resolve(settings, run_config(), 1, "zero.json").settings, "zero.json")
    assert named in str(error.value)
    assert "zero.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff", pytest.param("[" * 100_000, id="deep")])
def test_a_file_that_holds_no_settings_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "zero.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(AvilError, match=r"zero\.json"):
        read(path)


def test_deepspeed_s_adam_needs_zero(tmp_path: Path) -> None:
    config = run_config(optimizer={"backend": "deepspeed"})
    with pytest.raises(AvilError, match=r"optimizer\.backend is 'deepspeed'.*zero2\.json"):
        zero_of(config, 2)
    path = tmp_path / "zero.json"
    path.write_text(json.dumps(zero(0)), encoding="utf-8")
    with pytest.raises(AvilError, match=r"optimizer\.backend is 'deepspeed'"):
        zero_of(config.model_copy(update={"deepspeed": path}), 2)


@pytest.mark.parametrize(("ranks", "parts"), [(33, 1), (2, 17)])
def test_a_batch_needs_an_example_for_every_rank_and_part(ranks: int, parts: int) -> None:
    with pytest.raises(AvilError, match=rf"set batch_size={ranks * parts}"):
        zero_of(run_config(gradient_accumulation_steps=parts), ranks)


@pytest.mark.parametrize(("local", "size"), [("0", "2"), ("1", "2"), ("1", None)])
def test_more_ranks_than_gpus_are_refused_on_all(
    local: str, size: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if size:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", size)
    with pytest.raises(AvilError, match="2 ranks were started on this machine, but it has 1 GPUs"):
        local_device(torch.device("cuda"))


def test_missing_deepspeed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(AvilError, match=r"pip install 'avil-fast\[zero\]'"):
        setup.join(torch.device("cpu"))


@pytest.mark.parametrize("version", ["0.19.7", "0.20.0", "0.8.3+cu118", "1.0"])
def test_another_deepspeed_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(AvilError, match=rf"DeepSpeed is {version[:3]}.*0\.19\.8 up to 0\.20"):
        setup.join(torch.device("cpu"))


def test_deepspeed_on_another_device_is_refused() -> None:
    with pytest.raises(
        AvilError,
        match=r"the model is on cuda, but DeepSpeed runs on cpu; put the model there \(device=cpu\), or .*",
    ):
        setup.join(torch.device("cuda", 0))


@pytest.mark.parametrize(
    ("device", "accelerator", "under_deepspeed", "expected"),
    [
        ("auto", "cpu", True, "cpu"),
        ("auto", "cpu", False, "cuda"),
        ("auto", None, True, "cuda"),
        ("cuda", "cpu", True, "cuda"),
        ("cpu", None, True, "cpu"),
    ],
)
def test_auto_runs_where_deepspeed_is_told_to(
    device: str, accelerator: str | None, under_deepspeed: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    told = pytest.warns(UserWarning, match="on the CPU, as DS_ACCELERATOR says; unset it to train on the GPU")
    if accelerator is not None:
        monkeypatch.setenv("DS_ACCELERATOR", accelerator)
    with told if (device, expected) == ("auto", "cpu") else contextlib.nullcontext():
        assert pick_device(device, under_deepspeed).type == expected


def test_auto_is_deepspeeds_own_default() -> None:
    keys = ("reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold")
    resolved = resolve(zero(3, **dict.fromkeys(keys, "auto")), run_config(), 2)
    assert resolved.settings == resolve(zero(3), run_config(), 2).settings
    assert resolved.bucket(1000) == 1000


def test_a_prefetch_of_nothing_is_deepspeeds_way_to_turn_it_off() -> None:
    given = {"stage3_prefetch_bucket_size": 0, "stage3_max_live_parameters": 0}
    assert resolve(zero(3, **given), run_config(), 2).settings["zero_optimization"].items() >= given.items()
