from typing import Any
def render(summary: dict[str, Any], history: list[dict[str, Any]], config: str) -> str:
    return "<html></html>"
