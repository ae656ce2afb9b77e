"""Training methods, one per file. To add one: its file, and its line here and in `TrainConfig.method`."""

from avil_fast.methods.avil import Avil
from avil_fast.methods.base import Method
from avil_fast.methods.single import Single

METHODS: dict[str, type[Method]] = {"avil": Avil, "single": Single}
