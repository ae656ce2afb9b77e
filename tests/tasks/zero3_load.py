"""One rank of test_zero3: load an encoder under ZeRO stage 3 and compare with the whole one.

python -m torch.distributed.run --nproc-per-node 2 -m tests.tasks.zero3_load FOLDER
"""

import sys

import deepspeed
import torch
from deepspeed.runtime.zero.partition_parameters import GatheredParameters

from avil_fast.config import EncoderConfig
from avil_fast.tasks import encoder

ZERO3 = {
    "train_micro_batch_size_per_gpu": 2,
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
}
IDS, MASK = torch.tensor([[2, 5, 14, 3], [2, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def main(folder: str) -> None:
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # or it is compiled
    deepspeed.init_distributed("gloo", verbose=False)
    config = EncoderConfig(path=folder, max_length=16)
    whole, _ = encoder.build(config, {"news": 2}, 0)
    assert not any(hasattr(p, "ds_id") for p in whole.parameters())
    expected = whole.eval()("news", IDS, MASK)
    model, _ = encoder.build(config, {"news": 2}, 0, ZERO3)
    for name, parameter in model.encoder.named_parameters():
        assert parameter.numel() == 0, f"{name} is whole"
        assert parameter.ds_tensor.numel() <= parameter.ds_numel // 2 + 1, f"{name} is more than a half"
        with GatheredParameters([parameter]):
            assert torch.equal(parameter, whole.encoder.get_parameter(name)), f"{name} is not what was saved"
    trainable = [p for p in model.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.SGD(trainable, 0.1), config=ZERO3)
    engine.eval()
    torch.testing.assert_close(engine("news", IDS, MASK), expected)
    later, _ = encoder.build(config, {"news": 2}, 0)
    assert not any(hasattr(p, "ds_id") for p in later.parameters()), "stage 3 outlives the load"


if __name__ == "__main__":
    main(sys.argv[1])
