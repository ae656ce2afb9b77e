"""Start a run: `python avil_fast/train.py`, `python -m avil_fast.train`, or under a launcher, e.g.

deepspeed avil_fast/train.py --deepspeed_config configs/zero2.json
"""

from avil_fast.cli import train_main

if __name__ == "__main__":
    train_main()
