"""The settings of a run: defaults, presets, YAML in, overrides on top, JSON schema out.

The defaults are the strongest single configuration in the evidence so far; `preset: paper` is the published
algorithm.
"""

from avil_fast.config.loading import dump, from_dotted, from_settings, load
from avil_fast.config.run import Config
from avil_fast.config.sections import (
    AlphaConfig,
    DeltasConfig,
    FinetuneConfig,
    OptimizerConfig,
    WeightsConfig,
)
from avil_fast.config.train import CheckpointsConfig, LogConfig, TrainConfig

__all__ = [
    "AlphaConfig",
    "CheckpointsConfig",
    "Config",
    "DeltasConfig",
    "FinetuneConfig",
    "LogConfig",
    "OptimizerConfig",
    "TrainConfig",
    "WeightsConfig",
    "dump",
    "from_dotted",
    "from_settings",
    "load",
]
