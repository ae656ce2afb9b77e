"""Layers are told from the names of parameters, for the models that there are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avil_fast.engine.layers import layers
from avil_fast.engine.parameters import assign, grouped
from avil_fast.tasks.convnet import ConvNet
from avil_fast.tasks.task import Task
from tests.engine.ranks.cases import Encoder

SIZE = {
    "vocab_size": 9,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 8,
}


def groups(model: nn.Module, heads: tuple[str, ...] = ()) -> list[str]:
    tasks = [Task(head, [], lambda model, batch: torch.zeros(()), head=head) for head in heads]
    return list(grouped(model, assign(model, tasks)[0], "layer"))


def test_convolutions_and_a_plain_sequence() -> None:
    net = ConvNet(8, {"a": 2, "b": 3})
    assert groups(net, ("heads.a", "heads.b")) == [f"encoder.{i}" for i in (0, 1, 3, 4, 6, 7, 9, 10)]
    assert groups(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))) == ["0", "2"]
    assert groups(nn.Linear(2, 3)) == ["model"]


def test_a_parameter_of_the_model_itself_is_a_layer() -> None:
    heads = ("heads.a", "heads.t", "heads.b")
    assert groups(Encoder(), heads) == ["model", "encoder.layers.0", "encoder.layers.1", "adapter"]


@pytest.mark.parametrize("prefix", ["", "body.", "base.model."])
def test_an_encoder_of_transformers_wherever_it_lies_in_the_model(prefix: str) -> None:
    transformers = pytest.importorskip("transformers")
    bert = transformers.BertModel(transformers.BertConfig(**SIZE))
    found = layers([prefix + name for name, _ in bert.named_parameters()])
    named = ["embeddings", "encoder.layer.0", "encoder.layer.1", "pooler"]
    assert list(dict.fromkeys(found)) == [prefix + layer for layer in named]


def test_a_decoder_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZE))
    assert groups(llama) == ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "lm_head"]


def test_two_stacks_and_numbers_within_numbers() -> None:
    names = ["shared.weight", "encoder.block.0.layer.1.weight", "encoder.norm.weight", "decoder.block.0.weight"]
    assert layers(names) == ["shared", "encoder.block.0", "encoder.norm", "decoder.block.0"]
    assert layers(["a.weight", "a.inner.bias", "b.deep.er.weight"]) == ["a", "a", "b"]
    assert layers([]) == []
