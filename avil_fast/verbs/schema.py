"""avil-fast schema"""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON schema of a run's configuration: every setting, its default and what it does.

    Example: avil-fast schema
    """
    from avil_fast.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2))
