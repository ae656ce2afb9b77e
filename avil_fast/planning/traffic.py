"""What αVIL's own work in a round moves and how long that takes: all but the training of the tasks.

N shared trainable elements, n tasks, R ranks, S α steps, e bytes of a delta's element, p bytes of a parameter.
After the last α step one more gradient is taken, for what each task brought.
"""

from __future__ import annotations

from dataclasses import dataclass

from avil_fast.planning.hardware import MFU, PER_MACHINE, Gpu
from avil_fast.planning.memory import PlannedRun


@dataclass(frozen=True)
class Traffic:
    """What one rank moves and computes in one round."""

    memory: float
    """Bytes that the operations on deltas read and write: weighted_sum_, delta_dots, capture_ and delta_gram."""
    bus: float
    """Bytes between the GPU and the CPU's memory, where deltas are streamed."""
    network: float
    """Bytes received from other ranks: θ after every change, and the dev gradients."""
    flops: float
    """Multiplications and additions of the passes over dev examples."""
    passes: int
    """Times that the dev examples of an α step go forward and backward."""

    def seconds(self, gpu: Gpu, ranks: int, element: int) -> dict[str, float]:
        """The least seconds of each part, were it alone."""
        link = gpu.nvlink if ranks <= PER_MACHINE else gpu.network
        return {
            "operations on deltas": max(self.memory / gpu.bandwidth, self.bus / gpu.pcie),
            "communication": self.network / link,
            "dev passes": self.flops / (MFU * (gpu.flops if element == 2 else gpu.flops_fp32)),
        }


def traffic(run: PlannedRun) -> Traffic:
    """What a round moves; nothing for a method without deltas."""
    if not run.keeps_deltas:
        return Traffic(0.0, 0.0, 0.0, 0.0, 0)
    sizes, config, n, e, p = run.shape.sizes, run.config, run.tasks, run.codec_bytes, run.element
    own = sizes.shared / run.ranks
    steps = config.alpha.steps
    gradients = steps + 1 if steps else 0
    sums = gradients + 1
    low = 2 if p == 2 else 0
    memory = own * (sums * (8 + n * e + low) + gradients * (4 + n * e) + n * (12 + e + low) + n * e)
    streamed = run.on_gpu and config.deltas.device == "cpu"
    bus = own * n * e * (sums + gradients + 2) if streamed else 0.0
    examples = _examples(run)
    batches = -(-examples // config.eval_batch_size) if config.alpha.dev_examples is None else 1
    others = (run.ranks - 1) / run.ranks
    writes = sums + n  # of θ: in every α step, for the merge, and back after each task
    if run.stage == 3:
        network = others * p * sizes.whole * 3 * batches * gradients
    elif run.stage:
        network = others * p * sizes.shared * (writes + batches * gradients)
    else:
        network = others * sizes.shared * (4 * writes + 2 * p * gradients)
    work = 6 if not sizes.frozen else 4  # of a frozen parameter no gradient is taken
    flops = work * sizes.whole * examples * run.shape.tokens * gradients / run.ranks
    return Traffic(memory, bus, network, flops, gradients)


def _examples(run: PlannedRun) -> int:
    """Dev examples of an α step."""
    if run.config.alpha.dev_examples is not None:
        return run.config.alpha.dev_examples
    return run.dev or run.config.eval_batch_size
