"""The evidence suite: its settings can be run, and its results are whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from avil_fast.comparing.entrants import parse
from avil_fast.config import load
from avil_fast.run import training
from benchmarks.evidence.__main__ import METHODS, RESULTS, SETTINGS
from benchmarks.evidence.domains import DOMAINS, Domains, build
from benchmarks.evidence.earlier import beside
from benchmarks.evidence.page import found
from benchmarks.evidence.tuned import TunedDomains, as_torch_has_it, transformer_layer
from benchmarks.evidence.tuned import build as build_tuned

PATHS = sorted(SETTINGS.glob("*.yaml"))


def data_of(path: Path) -> dict | None:
    return yaml.safe_load(path.read_text(encoding="utf-8")).get("data")


ON_EMBEDDINGS = [path for path in PATHS if (data := data_of(path)) and "layers" not in data]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_method_can_be_run_on_every_setting(path: Path) -> None:
    for entrant in parse(METHODS):
        if data_of(path) is None:
            load(path, entrant.overrides)
        else:
            config = Domains(path, Path("nowhere")).config([*entrant.overrides, "seed=3"])
            assert config.target in DOMAINS
            assert config.seed == 3


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_results_are_of_a_setting_and_have_all_methods_and_seeds(path: Path) -> None:
    assert (SETTINGS / path.name).with_suffix(".yaml").is_file()
    result = found()[path.stem]
    assert list(result["methods"]) == [entrant.name for entrant in parse(METHODS)]
    assert result["seeds"] == list(range(10))
    for own in result["methods"].values():
        assert len(own["values"]) == 10


@pytest.mark.parametrize("path", ON_EMBEDDINGS, ids=lambda path: path.stem)
def test_a_setting_on_embeddings_trains(path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    embedded = {}
    for domain in DOMAINS:
        for split in ("train", "dev", "test"):
            embedded[f"{domain}/{split}/inputs"] = torch.randn(30, 6, generator=generator)
            embedded[f"{domain}/{split}/labels"] = torch.randint(2, (30,), generator=generator)
    config = Domains(path, Path("nowhere")).config(["rounds=1", "steps_per_task=1", "finetune.epochs=0"])
    model, tasks = build(embedded, data_of(path), config.target, config.seed)
    assert tasks[0].name == config.target
    result = training.train(model, tasks, config.model_copy(update={"output_dir": None}))
    assert len(result.tasks) == 4
    assert result.summary["test_metric"] is not None


def result(*, seeds: int = 3, **values: list[float | None]) -> dict:
    measure = {"key": "test_metric", "name": "test accuracy", "percent": True, "lower_is_better": False}
    methods = {name: {"values": own, "diverged": {}} for name, own in values.items()}
    return {"target": "t", "measure": measure, "seeds": list(range(seeds)), "methods": methods}


def test_new_runs_of_a_method_stand_beside_the_earlier_ones_of_the_others() -> None:
    earlier = result(avil=[0.1, 0.2, 0.3], single=[0.5, 0.4, 0.6], paper=[None, 0.9, 0.9])
    found = beside(earlier, result(avil=[0.7, 0.6, 0.8]))["methods"]
    assert list(found) == ["avil", "single", "paper"]
    assert found["avil"]["values"] == [0.7, 0.6, 0.8]
    assert found["avil"]["rival"] == found["single"]["rival"] == "paper"
    assert found["paper"]["rival"] == "avil"
    assert found["avil"]["difference"] == pytest.approx(-0.2)
    assert found["paper"]["values"] == [None, 0.9, 0.9]


def test_results_of_other_seeds_are_replaced() -> None:
    new = result(seeds=2, avil=[0.7, 0.6])
    assert beside(result(single=[0.5, 0.4, 0.6]), new) == new
    assert beside(None, new) == new


def test_a_layer_is_the_same_in_torchs_own_form() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"hidden_size": 24, "num_attention_heads": 12, "intermediate_size": 40, "num_hidden_layers": 2}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=50, **shape)).eval()
    ids, mask = torch.randint(50, (3, 7)), torch.arange(7) < torch.tensor([[7], [4], [2]])
    expected = bert(ids, attention_mask=mask.long()).last_hidden_state
    last = bert.encoder.layer[1]
    bert.encoder.layer = bert.encoder.layer[:1]
    before = bert(ids, attention_mask=mask.long()).last_hidden_state
    layer = transformer_layer(24, as_torch_has_it(last)).eval()
    torch.testing.assert_close(layer(before, src_key_padding_mask=~mask)[mask], expected[mask])


def test_the_last_layers_train() -> None:
    path = SETTINGS / "tuned_news.yaml"
    config = TunedDomains(path, Path("nowhere")).config(["rounds=1", "steps_per_task=1", "finetune.epochs=0"])
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(24, 12, 40)
    made = {f"layers/0/{name}": tensor for name, tensor in layer.state_dict().items()}
    for domain in DOMAINS:
        for split in ("train", "dev", "test"):
            made[f"{domain}/{split}/states"] = torch.randn(20, 5, 24).half()
            made[f"{domain}/{split}/mask"] = torch.arange(5) < torch.randint(1, 6, (20, 1))
            made[f"{domain}/{split}/labels"] = torch.randint(2, (20,))
    model, tasks = build_tuned(made, data_of(path) or {}, config.target, config.seed)
    result = training.train(model, tasks, config.model_copy(update={"output_dir": None}))
    assert len(result.tasks) == 4
    assert result.summary["test_metric"] is not None
