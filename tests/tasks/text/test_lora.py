"""Low-rank adapters: the same as peft's own training, and what a merge of deltas does to the weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor, nn

import avil_fast as avil
from avil_fast.config.model import LoraConfig
from avil_fast.errors import AvilError
from avil_fast.randomness import derive_seed
from avil_fast.tasks.text import lora
from tests.tasks import made_up

RANK, ALPHA, SCALE = 4, 6.0, 1.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up.causal_lm(tmp_path_factory.mktemp("lm"))


def fresh(folder: Path, space: str = "AB") -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    lora.adapt_(model, LoraConfig(rank=RANK, alpha=ALPHA, space=space), seed=0)  # type: ignore[arg-type]
    return model


def batches(count: int, seed: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    found = (torch.randint(1, 257, (3, 10), generator=generator) for _ in range(count))
    return [{"input_ids": ids, "labels": ids} for ids in found]


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(**batch).loss
    return found


def factors(model: nn.Module) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Name, W, A and B of every layer with an adapter."""
    for name, layer in model.named_modules():
        if isinstance(layer, peft.tuners.lora.Linear):
            a, b = layer.lora_A[lora.ADAPTER].weight, layer.lora_B[lora.ADAPTER].weight
            yield name, layer.base_layer.weight.detach(), a.detach().clone(), b.detach().clone()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # within peft
def test_the_target_alone_with_alpha_1_is_pefts_own_training(folder: Path) -> None:
    """Five AdamW steps, a delta, a merge with α = 1; against get_peft_model and a plain loop."""
    train = batches(5, 1)
    model = fresh(folder)
    options = {"optimizer.lr": 1e-2, "alpha.steps": 0, "finetune.epochs": 0, "keep": "last", "steps_per_task": 5}
    task = avil.Task("own", train=train, loss=loss, dev=batches(1, 2))
    avil.fit(model, [task], "own", rounds=1, **options)

    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    theirs = peft.get_peft_model(
        plain, peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    order = torch.randperm(5, generator=torch.Generator().manual_seed(derive_seed(0, "own", "pass", 0)))
    optimizer = torch.optim.AdamW(
        [p for p in theirs.parameters() if p.requires_grad], lr=1e-2, betas=(0.9, 0.999), weight_decay=0.0
    )
    theirs.train()
    for index in order.tolist():
        optimizer.zero_grad()
        loss(theirs, train[index]).backward()
        optimizer.step()
    expected = {name: (a, b) for name, _, a, b in factors(theirs.base_model.model)}
    found = {name: (a, b) for name, _, a, b in factors(model)}
    assert found.keys() == expected.keys()
    for name, pair in found.items():
        torch.testing.assert_close(pair, expected[name], rtol=1e-4, atol=1e-5)
        assert pair[1].abs().max() > 1e-3


class Bank:
    """The deltas of two tasks that trained from the same adapters, and α, as a run left them."""

    def __init__(self, folder: Path, space: str, alpha: tuple[float, float]) -> None:
        self.alpha = alpha
        self.start = {name: (w, a, b) for name, w, a, b in factors(_trained(fresh(folder, space), 9))}
        self.ends = []
        for seed in (1, 2):
            model = _trained(fresh(folder, space), 9)
            self.ends.append({name: (a, b) for name, _, a, b in factors(_trained(model, seed))})

    def merged(self, name: str) -> Tensor:
        """The weight of a layer whose factors were merged."""
        w, a, b = self.start[name]
        da, db = self.deltas(name)
        return w + SCALE * (b + _sum(self.alpha, db)) @ (a + _sum(self.alpha, da))

    def dense(self, name: str) -> Tensor:
        """The weight of a layer after a merge of the changes of the weight itself: W + Σ α_i δW_i."""
        w, a, b = self.start[name]
        changes = [SCALE * (end[name][1] @ end[name][0] - b @ a) for end in self.ends]
        return w + SCALE * b @ a + _sum(self.alpha, changes)

    def cross_terms(self, name: str) -> Tensor:
        """By which the two differ: scale · (Σ_ij α_i α_j δB_i δA_j − Σ_i α_i δB_i δA_i)."""
        da, db = self.deltas(name)
        pairs = _sum(self.alpha, db) @ _sum(self.alpha, da)
        return SCALE * (pairs - _sum(self.alpha, [b @ a for a, b in zip(da, db, strict=True)]))

    def deltas(self, name: str) -> tuple[list[Tensor], list[Tensor]]:
        _, a, b = self.start[name]
        return [end[name][0] - a for end in self.ends], [end[name][1] - b for end in self.ends]


def _sum(alpha: tuple[float, float], tensors: list[Tensor]) -> Tensor:
    return alpha[0] * tensors[0] + alpha[1] * tensors[1]


def _trained(model: Any, seed: int) -> Any:
    model = model.double()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for batch in batches(4, seed):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("alpha", [(0.7, 0.4), (1.0, 0.0), (1.5, -0.5)])
def test_in_space_b_a_merge_is_exactly_that_of_the_weights(folder: Path, alpha: tuple[float, float]) -> None:
    bank = Bank(folder, "B", alpha)
    for name, (_, a, _) in bank.start.items():
        assert all(torch.equal(end[name][0], a) for end in bank.ends)
        torch.testing.assert_close(bank.merged(name), bank.dense(name), rtol=1e-12, atol=1e-12)


def test_in_space_ab_a_merge_has_cross_terms_and_no_others(folder: Path) -> None:
    bank = Bank(folder, "AB", (0.7, 0.4))
    for name in bank.start:
        cross = bank.cross_terms(name)
        assert cross.abs().max() > 1e-6
        torch.testing.assert_close(bank.merged(name), bank.dense(name) + cross, rtol=1e-12, atol=1e-12)
    alone = Bank(folder, "AB", (1.0, 0.0))
    for name in alone.start:
        torch.testing.assert_close(alone.merged(name), alone.dense(name), rtol=1e-12, atol=1e-12)


def test_in_space_ab_a_task_cannot_be_taken_out_again(folder: Path) -> None:
    """What the warning about α < 0 is for: the product of two changed signs is the product again."""
    bank = Bank(folder, "AB", (-1.0, 0.0))
    opposite = Bank(folder, "AB", (1.0, 0.0))
    name = next(iter(bank.start))
    (da, _), (db, _) = bank.deltas(name)
    w, a, b = bank.start[name]
    there, back = opposite.merged(name), bank.merged(name)
    torch.testing.assert_close((there + back) / 2, w + SCALE * (b @ a + db @ da), rtol=1e-12, atol=1e-12)


def test_what_fit_merges_is_what_the_spaces_say(folder: Path) -> None:
    """θ + Σ α_i δ_i of a real run in space B is W + Σ α_i δW_i."""
    model = fresh(folder, "B")
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names
    assert all(".lora_B." in name for name in names)
    before = {name: a for name, _, a, _ in factors(model)}
    tasks = [
        avil.Task("own", train=batches(3, 1), loss=loss, dev=batches(1, 3)),
        avil.Task("other", train=batches(3, 2), loss=loss),
    ]
    avil.fit(model, tasks, "own", rounds=2, **{"finetune.epochs": 0, "alpha.steps": 2})
    for name, _, a, b in factors(model):
        assert torch.equal(a, before[name])
        assert b.abs().max() > 0


@pytest.mark.parametrize("targets", [["nothing"], ["q_projx", "v"]])
def test_layers_that_are_not_there_are_answered_with_those_that_are(folder: Path, targets: list[str]) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(AvilError, match=r"model.lora.targets is .* layers are called down_proj, gate_proj"):
        lora.adapt_(model, LoraConfig(targets=tuple(targets)), seed=0)


def test_what_is_saved_is_the_layers_whole_weight_for_all_kinds_of_layers() -> None:
    config = transformers.GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    for space in ("AB", "B"):
        model = transformers.GPT2LMHeadModel(config).eval()  # its layers hold their weights transposed
        wanted = LoraConfig(targets=("wte", "c_attn", "c_fc"), space=space)  # type: ignore[arg-type]
        lora.adapt_(model, wanted, seed=0)
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert any("lora_embedding" in name for name in trained)
        with torch.no_grad():
            for name in trained:
                model.get_parameter(name).normal_(0, 0.3)
        plain = transformers.GPT2LMHeadModel(config).eval()
        saved = dict(lora.merged(model.named_parameters(), model))
        plain.load_state_dict(saved, strict=False)
        plain.tie_weights()
        assert saved.keys() == dict(plain.named_parameters()).keys()
        ids = torch.tensor([[1, 2, 3, 4]])
        with torch.no_grad():
            found, expected = plain.transformer(ids).last_hidden_state, model.transformer(ids).last_hidden_state
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
