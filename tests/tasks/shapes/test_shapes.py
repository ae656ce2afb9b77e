"""What is said of a model before it is loaded is what holds of it afterwards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avil_fast.config import from_settings
from avil_fast.tasks.from_config import build
from avil_fast.tasks.shapes.base import Pass
from avil_fast.tasks.shapes.counting import traced
from avil_fast.tasks.shapes.images import ImageShape
from avil_fast.tasks.shapes.live_bytes import LiveBytes
from avil_fast.tasks.shapes.texts import TextShape
from tests.tasks import made_up

KINDS: tuple[Pass, ...] = ("training", "alpha", "evaluation")


def llama(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    settings = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 7,
                "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings | changes), encoding="utf-8")
    return folder


def causal(folder: Path, **model: Any) -> TextShape:
    given = {"name": "causal_lm", "path": str(folder), "max_length": 16} | model
    task = {"kind": "language_modelling", "files": "nowhere"}
    config = from_settings({"target": "a", "model": given, "tasks": {"a": task, "b": task}})
    return TextShape(config.tasks.by_name, "a", config.model)


def really(make: Callable[[], tuple[nn.Module, Callable[[nn.Module], Tensor]]], kind: Pass) -> int:
    """The peak of a pass on real tensors."""
    model, loss = make()
    model.train(kind == "training")
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with torch.set_grad_enabled(kind != "evaluation"), LiveBytes() as live:
        found = loss(model)
        if kind != "evaluation":
            found.backward()
    return live.peak


def small() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    layers = [nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1)]
    batch = torch.zeros(32, 64)
    return nn.Sequential(*layers, *layers[1:]), lambda model: model(batch).square().mean()


@pytest.mark.parametrize("kind", KINDS)
def test_fake_tensors_take_what_real_ones_do(kind: Pass) -> None:
    assert traced(small, kind) == really(small, kind)


def test_memory_that_is_given_back_does_not_count() -> None:
    with LiveBytes() as live:
        kept = torch.zeros(1000)
        for _ in range(3):
            kept + 1.0
        assert live.now() == 4000
    assert live.peak == 8000


def test_an_encoder_has_the_parameters_that_it_will_have(tmp_path: Path) -> None:
    model = made_up.encoder(tmp_path / "model")
    tasks = {name: {"files": str(made_up.task(tmp_path / name))} for name in ("a", "b")}
    config = from_settings(
        {"target": "a", "model": {"path": str(model), "max_length": 16}, "tasks": tasks, "output_dir": "x"}
    )
    network, made, _ = build(config)
    shape = TextShape(config.tasks.by_name, "a", config.model)
    heads = [sum(p.numel() for n, p in network.named_parameters() if n.startswith(f"{t.head}.")) for t in made]
    assert list(shape.sizes.heads) == heads
    assert shape.sizes.trained == sum(p.numel() for p in network.parameters())
    assert shape.sizes.frozen == 0


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_few_layers_tell_how_many_elements_there_are_in_all(tmp_path: Path, lora: Any) -> None:
    shape = causal(llama(tmp_path / "model"), lora=lora)
    with torch.device("meta"):
        whole = shape._model(7)
    trained = sum(p.numel() for p in whole.parameters() if p.requires_grad)
    assert (shape.sizes.shared, shape.sizes.whole) == (trained, sum(p.numel() for p in whole.parameters()))


def test_layers_that_differ_are_all_counted(tmp_path: Path) -> None:
    """A mixture of experts after a first dense layer."""
    settings = {"model_type": "qwen2_moe", "decoder_sparse_step": 2, "num_experts": 4, "moe_intermediate_size": 16,
                "shared_expert_intermediate_size": 16}  # fmt: skip
    shape = causal(llama(tmp_path / "model", **settings))
    with torch.device("meta"):
        whole = shape._model(7)
    assert shape.sizes.whole == sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_few_layers_tell_what_a_pass_through_all_keeps(tmp_path: Path, kind: Pass, checkpointing: bool) -> None:
    shape = causal(llama(tmp_path / "model"), gradient_checkpointing=checkpointing)
    assert shape.kept(4, kind).nbytes == pytest.approx(shape._traced(7, 4, kind), rel=0.01)


def test_checkpointing_saves_memory_in_the_alpha_phase_too(tmp_path: Path) -> None:
    folder = llama(tmp_path / "model", num_hidden_layers=12)
    plain, saving = (causal(folder, gradient_checkpointing=on) for on in (False, True))
    for kind in ("training", "alpha"):
        assert saving.kept(4, kind).nbytes < plain.kept(4, kind).nbytes / 2


def test_another_setting_makes_another_shape(tmp_path: Path) -> None:
    shape = causal(llama(tmp_path / "model"))
    assert shape.changed(dtype="fp32") is None
    half = shape.changed(dtype="bf16")
    assert half is not None
    assert half.sizes.element == 2


def test_images_have_the_parameters_that_they_will_have() -> None:
    config = from_settings({"tasks": {"train": 20, "auxiliary_train": 20, "dev": 10, "test": 10}})
    network, tasks, _ = build(config)
    shape = ImageShape(config.tasks, config.model)
    assert shape.sizes.trained == sum(p.numel() for p in network.parameters())
    assert len(shape.sizes.heads) == len(tasks)
    batch = next(iter(torch.utils.data.DataLoader(tasks[0].dev, 10)))
    for kind in KINDS:
        real = really(lambda: (network, lambda model: tasks[0].loss(model, batch)), kind)
        assert shape.kept(10, kind).nbytes == pytest.approx(real, rel=0.01)
