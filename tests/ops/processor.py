"""The instruction sets that the processor has, in torch's word: our own dispatcher is under test."""

import torch

ISAS = ("portable", "avx2", "avx512")
PROCESSOR_HAS = {"AVX512": ISAS, "AVX2": ISAS[:2]}.get(torch.backends.cpu.get_cpu_capability(), ISAS[:1])
