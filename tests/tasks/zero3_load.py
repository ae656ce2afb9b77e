"""One rank of test_zero3: load models under ZeRO stage 3 and compare with whole ones.

python -m torch.distributed.run --nproc-per-node 2 -m tests.tasks.zero3_load FOLDER
"""

import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.zero.partition_parameters import GatheredParameters
from torch import nn

from avil_fast.config import Config, from_settings
from avil_fast.tasks.from_config import build

ZERO3 = {
    "train_micro_batch_size_per_gpu": 2,
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
}
WHOLE = "no such part"
"""Below which nothing is sharded."""
IDS, MASK = torch.tensor([[2, 5, 14, 3], [2, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def compare(config: Config, sharded_below: str, arguments: tuple[Any, ...]) -> None:
    whole, *_ = build(config)
    assert not any(hasattr(p, "ds_id") for p in whole.parameters())
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    expected = whole.eval()(*arguments, **inputs).logits
    model, *_ = build(config, ZERO3)
    own = dict(whole.named_parameters())
    for name, parameter in model.named_parameters():
        if name.startswith(sharded_below) and "lora_" not in name:
            assert parameter.numel() == 0, f"{name} is whole"
            assert parameter.ds_tensor.numel() <= parameter.ds_numel // 2 + 1, f"{name} is more than a half"
            with GatheredParameters([parameter]):
                assert torch.equal(parameter, own[name]), f"{name} is not what was saved"
        else:
            assert torch.equal(parameter, own[name]), f"{name} is not the same"
    engine, *_ = deepspeed.initialize(model=model, optimizer=_optimizer(model), config=ZERO3)
    engine.eval()
    torch.testing.assert_close(engine(*arguments, **inputs).logits, expected)
    later, *_ = build(config)
    assert not any(hasattr(p, "ds_id") for p in later.parameters()), "stage 3 outlives the load"


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)


def main(folder: Path) -> None:
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # or it is compiled
    deepspeed.init_distributed("gloo", verbose=False)
    text = {name: {"files": str(folder / name)} for name in ("news", "tweets")}
    run: dict[str, Any] = {"target": "news", "tasks": text}
    encoder = {"path": str(folder / "encoder"), "max_length": 16}
    compare(from_settings(run | {"model": encoder}), "body.", ("tweets",))
    compare(from_settings(run | {"model": encoder | {"lora": True}}), "body.", ("news",))
    language = {name: task | {"kind": "language_modelling"} for name, task in text.items()}
    model = {"path": str(folder / "causal_lm"), "max_length": 16}
    compare(from_settings(run | {"tasks": language, "model": model}), "", ())
    compare(from_settings(run | {"tasks": language, "model": model | {"init": "random"}}), WHOLE, ())
    no_pooler = encoder | {"path": str(folder / "no_pooler")}
    compare(from_settings(run | {"model": no_pooler}), "body.", ("tweets",))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
