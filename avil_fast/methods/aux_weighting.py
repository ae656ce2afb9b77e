"""A small network that maps the tasks' losses to their weights, trained by a look-ahead step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from avil_fast.config.base import Count, Positive, Section
from avil_fast.methods.merging import Merging
from avil_fast.randomness import derive_seed


class AuxWeighting(Merging):
    """Han, Huang, An and Bai, "Adaptive Transfer Learning on Graph Neural Networks" (KDD 2021), on deltas.

    The weights are n softmax(f(ℓ)) of the tasks' mean training losses ℓ in this round. The look-ahead step is the
    merge itself: f learns by the gradient of the target's dev loss at θ + Σ w_i δ_i, ∂L/∂w_i = ⟨∇L, δ_i⟩, and the
    weights are then taken anew. Its last layer begins at 0, so that all weights begin at 1.
    """

    class Options(Section):
        """The network and how it learns."""

        hidden: Count = 16
        """Hidden units."""
        lr: Positive = 0.05
        """Learning rate of Adam."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        n, hidden = len(self.engine.tasks), self.options.hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.config.seed, "weighting network"))
            last = nn.Linear(hidden, n)
            self.network = nn.Sequential(nn.Linear(n, hidden), nn.Tanh(), last).double()
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=self.options.lr)

    def coefficients(self, round_: int) -> list[float]:
        losses = torch.tensor([loss or 0.0 for loss in self.so_far.loss], dtype=torch.float64)
        losses = losses / losses.abs().max().clamp(min=1e-12)
        weight = self._weights(losses)
        if found := self.dev_gradient(weight.tolist()):
            gradient = torch.tensor(found, dtype=torch.float64)
            self._optimizer.zero_grad()
            weight.backward(gradient / gradient.abs().max().clamp(min=1e-12))  # type: ignore[no-untyped-call]
            self._optimizer.step()
        self.weight = self._weights(losses).tolist()
        return list(self.weight)

    def _weights(self, losses: Tensor) -> Tensor:
        """[n], of mean 1, with a graph."""
        return len(losses) * torch.softmax(self.network(losses), 0)

    def state(self) -> dict[str, Any]:
        moments = self._optimizer.state_dict()["state"]
        return super().state() | {
            "network": [parameter.tolist() for parameter in self.network.parameters()],
            "moments": [{name: value.tolist() for name, value in own.items()} for own in moments.values()],
        }

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        for parameter, values in zip(self.network.parameters(), state["network"], strict=True):
            parameter.data = torch.tensor(values, dtype=torch.float64)
        saved = self._optimizer.state_dict()
        saved["state"] = {
            place: {name: torch.tensor(value, dtype=torch.float64) for name, value in own.items()}
            for place, own in enumerate(state["moments"])
        }
        self._optimizer.load_state_dict(saved)
