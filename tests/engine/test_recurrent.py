"""The α phase of models with RNNs, whose backward pass in eval mode cuDNN refuses: its rule, on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import rnn

import avil_fast as avil
from avil_fast.config import DeltasConfig, OptimizerConfig
from avil_fast.engine import partitioned
from avil_fast.engine.local import LocalEngine
from avil_fast.engine.settings import EngineSettings


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(4, 8, batch_first=True)
        self.outer = nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.outer(self.inner(inputs)[0][:, -1])


class CudnnRule:
    """torch._VF, with what aten/src/ATen/native/cudnn/RNN.cpp requires of an LSTM."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch._VF, name)

    def lstm(self, *arguments: Any) -> Any:
        outputs = torch._VF.lstm(*arguments)
        refused = torch.backends.cudnn.enabled and not arguments[6]  # in eval mode

        def rule(gradient: Tensor) -> None:
            if refused:
                raise RuntimeError("cudnn RNN backward can only be called in training mode")

        if outputs[0].requires_grad:
            outputs[0].register_hook(rule)
        return outputs


def alpha_phase() -> float:
    """The dev loss of the α phase of a round of one task."""
    torch.manual_seed(0)
    batch = (torch.randn(6, 3, 4), torch.arange(6) % 2)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    task = avil.Task("t", train=[batch], dev=[batch], loss=loss)
    engine = LocalEngine(Recurrent(), [task], 0, EngineSettings(OptimizerConfig(), DeltasConfig()))
    engine.begin_round()
    engine.begin_task(0, seed=0)
    engine.train_step(batch)
    engine.end_task()
    engine.apply([1.0])
    return engine.target_gradient([batch])[1]


def test_the_alpha_phase_of_an_lstm_does_without_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alpha_phase()
    monkeypatch.setattr(rnn, "_VF", CudnnRule())
    with pytest.raises(RuntimeError, match="training mode"):  # the rule is imposed
        alpha_phase()
    monkeypatch.setattr(partitioned, "_refused_by_cudnn", lambda model, device: True)
    assert alpha_phase() == expected
    assert torch.backends.cudnn.enabled


def test_only_rnns_on_a_gpu_do_without_cudnn() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    for module in (nn.LSTM(2, 2), nn.GRU(2, 2), nn.RNN(2, 2), Recurrent()):
        assert partitioned._refused_by_cudnn(module, gpu)
        assert not partitioned._refused_by_cudnn(module, cpu)
    assert not partitioned._refused_by_cudnn(nn.Sequential(nn.Linear(2, 2), nn.LSTMCell(2, 2)), gpu)
