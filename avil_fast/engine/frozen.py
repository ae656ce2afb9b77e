"""Parameters that are not trained: told from those of another model, and saved where `forward` moves them itself.

They take no part in rounds, and a checkpoint holds none that stays as it came. A momentum encoder follows θ, and a
run that is taken up would go on with what it was at the start.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

SAMPLES = 256
"""Elements of a parameter that are looked at: enough to tell one model from another, whatever its size."""


class Frozen:
    """The frozen parameters of a model, compared by samples with what they were when this was made.

    Args:
        model: those without elements are ZeRO's, which has taken their memory, and are not looked at.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._samples = {name: _samples(parameter).clone() for name, parameter in self._here()}
        self.checksum = self._checksum()
        """Of the samples, then; None where a rank does not have all of the parameters."""

    def moved(self) -> dict[str, Tensor]:
        """Those that are not what they were, by name; none of them copied."""
        return {
            name: parameter.detach()
            for name, parameter in self._here()
            if name in self._samples and not _same_bits(_samples(parameter), self._samples[name])
        }

    @torch.no_grad()
    def put(self, moved: Mapping[str, Tensor]) -> None:
        """Set parameters to what `moved` gave; one that ZeRO has taken the memory of stays."""
        for name, parameter in self._here():
            if name in moved:
                parameter.copy_(moved[name])

    def _checksum(self) -> int | None:
        checksum = 0
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad:
                continue
            if name not in self._samples:
                return None
            # As bf16, which a model may be converted to.
            bits = self._samples[name].to("cpu", torch.bfloat16).view(torch.int16).tolist()
            checksum = zlib.crc32(repr((name, bits)).encode(), checksum)
        return checksum

    def _here(self) -> Iterator[tuple[str, nn.Parameter]]:
        parameters = self._model.named_parameters()
        return ((name, p) for name, p in parameters if not p.requires_grad and p.numel())


def _samples(parameter: Tensor) -> Tensor:
    return parameter.detach().flatten()[:: -(-parameter.numel() // SAMPLES)]


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """NaN is what it was, too."""
    return one.dtype == other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )
