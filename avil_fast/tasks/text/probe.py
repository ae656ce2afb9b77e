"""Short forward passes that show whether a model does what it is taken for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avil_fast.errors import AvilError


def require_causal(model: Any, path: str) -> None:
    """Refuse a model that sees the tokens it is to predict, such as an encoder with a language model's head."""
    ids = _ids(model)
    other = ids.clone()
    other[0, -1] = ids[0, 0]
    if _differ(_logits(model, ids)[:, :-1], _logits(model, other)[:, :-1], _rounding(model)):
        raise AvilError(
            f"model.path is {path!r}, whose model sees the tokens that it is to predict; name a causal "
            f"language model"
        )


def require_packable(model: Any, path: str) -> None:
    """Refuse a model for which packed examples are not apart, whose positions begin anew with each."""
    ids = _ids(model)
    apart = torch.cat([_logits(model, ids[:, :3]), _logits(model, ids[:, 3:])], dim=1)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])
    try:
        together = _logits(model, ids, position_ids=positions)
    except (TypeError, ValueError, RuntimeError):  # it takes no positions
        together = torch.zeros_like(apart)
    if _differ(together, apart, _rounding(model)):
        raise AvilError(
            f"packing is true, but examples in one sequence see each other in the model of model.path {path!r}; "
            f"set packing: false"
        )


def _ids(model: Any) -> Tensor:
    """Seven tokens, no two of them the same."""
    count = model.get_input_embeddings().num_embeddings
    return torch.tensor([[(1 + 7 * k) % count for k in range(7)]], device=model.device)


def _logits(model: Any, ids: Tensor, **more: Tensor) -> Tensor:
    was_training, cache = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = False
    try:
        with torch.no_grad():
            found: Tensor = model(input_ids=ids, **more).logits
            return found.float()
    finally:
        model.train(was_training)
        model.config.use_cache = cache


def _differ(one: Tensor, other: Tensor, rounding: float) -> bool:
    """By more than so large a part of their spread."""
    return bool((one - other).abs().max() > rounding * one.std())


def _rounding(model: Any) -> float:
    """Of logits, in parts of their spread: 1e-6 for Llama, GPT-2 and Qwen 2; OPT and BLOOM, which fail, 0.11."""
    return 0.05 if model.dtype == torch.bfloat16 else 1e-3
