"""A decoder's shape by formulas, without transformers: what `TextShape` counts of such a model.

e is the bytes of an element, t the tokens of a pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avil_fast.config.model import CausalLMConfig, EncoderConfig, TextModelConfig
from avil_fast.tasks.shapes.base import Kept, Pass, Shape, Sizes, in_gb
from avil_fast.tasks.shapes.decoder import Decoder, read
from avil_fast.tasks.text.model_path import HUB, resolve

ELEMENT = {"fp32": 4, "bf16": 2}


def by_formulas(model: TextModelConfig) -> FormulaShape | None:
    """The shape of a model that the formulas surely cover; None for any other.

    Raises:
        AvilError: there is no such folder.
    """
    if isinstance(model, EncoderConfig) or model.lora is not None or model.path.startswith(HUB):
        return None
    decoder = read(Path(resolve(model.path)[0]))
    if decoder is None or 2 * decoder.inner < 3 * decoder.hidden or decoder.inner < decoder.queries:
        return None  # something else than the MLP may take the most of a layer's backward pass
    return FormulaShape(decoder, model)


class FormulaShape(Shape):
    """A causal language model all of whose parameters are trained."""

    def __init__(self, decoder: Decoder, model: CausalLMConfig) -> None:
        self._decoder, self._model = decoder, model
        self._e = ELEMENT[model.dtype]
        self.tokens = model.max_length
        self.notes = [f"every text is taken to have model.max_length = {model.max_length} tokens"]
        self.sizes = Sizes(decoder.whole, [], 0, decoder.buffers, self._e, decoder.largest)

    def changed(self, **settings: Any) -> FormulaShape | None:
        if all(getattr(self._model, name) == value for name, value in settings.items()):
            return None
        return FormulaShape(self._decoder, self._model.model_copy(update=settings))

    def kept(self, examples: int, kind: Pass) -> Kept:
        what = f"by formulas for {examples} x {self.tokens} tokens"
        if kind == "evaluation":
            return Kept(self._evaluation(examples), f"of one layer, {what}")
        first, each = self._training(examples)
        layers = self._decoder.layers
        return Kept(first + layers * each, f"{in_gb(first)} and {in_gb(each)} for each of {layers} layers, {what}")

    def _training(self, examples: int) -> tuple[int, int]:
        """What is taken once, and what each layer keeps. The most is taken where the backward pass goes through
        the loss, or through a layer: the last one, or one that is computed again."""
        t, decoder, e = examples * self.tokens, self._decoder, self._e
        stream, layer = t * e * decoder.hidden, self._layer(examples)
        around = 2 * e * self.tokens * decoder.head + 8  # rotary positions, and the loss
        mlp, weight = t * e * decoder.inner, e * decoder.hidden * decoder.inner
        backward = stream + max(2 * mlp, mlp + weight)
        loss = self._norm(t, decoder.hidden) + stream + self._loss_backward(t)
        if not self._model.gradient_checkpointing:
            return around + max(loss, backward), layer
        around += examples * self.tokens**2 + 8 * self.tokens  # the mask and the positions
        again = layer - stream * (e == 4)  # of which the input in fp32 is kept anyway
        return around + max(loss, again + backward), stream

    def _evaluation(self, examples: int) -> int:
        """The most that is taken at once: by a layer's MLP, or by the loss."""
        t, decoder, e = examples * self.tokens, self._decoder, self._e
        stream = t * e * decoder.hidden
        around = examples * self.tokens**2 + 8 * self.tokens + 2 * e * self.tokens * decoder.head
        streams = 4 if decoder.layers > 1 else 3  # the embedded tokens, and within a layer
        logits = t * decoder.vocabulary * (8 if e == 4 else 10)
        labels = 8 * (t + examples) + 8 * t * (examples > 1)
        return max(around + streams * stream + 3 * t * e * decoder.inner, stream + logits + labels + 8)

    def _layer(self, examples: int) -> int:
        """What a layer keeps for its backward pass."""
        t, decoder, e = examples * self.tokens, self._decoder, self._e
        norms = 2 * self._norm(t, decoder.hidden)
        if decoder.normed_heads:
            norms += self._norm(t, decoder.queries, decoder.heads) + self._norm(t, decoder.keys, decoder.groups)
        repeated = decoder.queries if decoder.groups < decoder.heads else decoder.keys
        attention = 2 * decoder.queries + 2 * repeated  # queries, what comes out, keys and values
        inputs = 2 * decoder.hidden  # of attention and MLP
        scales = 4 * t * decoder.heads  # of the softmax
        mask = e * examples * self.tokens**2
        return norms + t * e * (inputs + attention + 4 * decoder.inner) + scales + mask

    def _norm(self, t: int, width: int, norms: int = 1) -> int:
        """What RMS norms keep: their input in fp32, the normed input, and a scale each."""
        return t * ((4 + self._e) * width + 4 * norms)

    def _loss_backward(self, t: int) -> int:
        """Two gradients of the logits beside their logarithms, in fp32; or, a step later, those of the logits, of
        the output layer's weight, and of what it reads."""
        decoder = self._decoder
        logits = t * decoder.vocabulary
        return max(12 * logits, self._e * (logits + decoder.embedding + t * decoder.hidden))
