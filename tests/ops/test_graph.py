"""The operations in a CUDA graph: captured once, replayed on what the tensors hold by then."""

import pytest
import torch
from bank_truth import CODECS, assert_same_bits, poisoned, random_bank, random_flats

from avil_fast import ops
from avil_fast.kernels import tables


@pytest.mark.gpu
@pytest.mark.parametrize("codec", CODECS)
def test_a_replay_does_what_a_call_does(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("cuda"):
        bank, base, out, alpha = random_bank(3, codec), random_flats(), poisoned(), torch.randn(3)
        theta = random_flats()
        new_theta, new_alpha = random_flats(), torch.randn(3)

    def run() -> list[torch.Tensor]:
        squares = ops.capture_(bank.codes, bank.scales, 1, theta, base)
        ops.weighted_sum_(out, base, bank.codes, bank.scales, alpha)
        dots = ops.delta_dots(out, bank.codes, bank.scales)
        return [squares, dots, ops.delta_gram(bank.codes, bank.scales)]

    def change() -> None:
        alpha.copy_(new_alpha)
        for to, source in zip(theta, new_theta, strict=True):
            to.copy_(source)

    run()  # compiles the kernels and makes the tables
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    monkeypatch.setattr(tables.cache, "limit", 1)
    tables.tables([torch.zeros(1, 8, device="cuda")], [])  # what the graph reads must outlive this
    change()
    graph.replay()
    replayed = [t.clone() for t in [*out, *theta, *results]]
    change()
    called = run()
    for a, b in zip(replayed, [*out, *theta, *called], strict=True):
        assert_same_bits(a, b)
