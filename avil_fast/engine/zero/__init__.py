"""The engine on DeepSpeed's ZeRO stages 1 to 3.

What knows DeepSpeed from the inside is in `shards.py`, `setup.py` and `model_access.py`.
"""
