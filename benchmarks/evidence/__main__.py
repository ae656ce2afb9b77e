"""`python -m benchmarks.evidence [SETTING...] --seeds 10`: trains what is not trained yet, and writes the results.

Settings lie in benchmarks/evidence/settings, results in benchmarks/results/evidence; `python -m benchmarks.pages`
makes docs/evidence.md of them. What a setting needs is told where it is missing. With `--methods` the
results of all other methods stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from avil_fast.comparing.entrants import parse
from avil_fast.comparing.over_seeds import FromFile, compare
from avil_fast.errors import AvilError, Stopped
from benchmarks import command
from benchmarks.evidence.domains import Domains, embed
from benchmarks.evidence.earlier import beside
from benchmarks.evidence.tuned import TunedDomains, hidden_states

SETTINGS = Path(__file__).parent / "settings"
RESULTS = Path(__file__).parents[1] / "results" / "evidence"
METHODS = (
    "avil,paper,paper:finetune.epochs=10,single,single_own,single_all,multitask,multitask_all,multitask_ft,diw,"
    "forkmerge,tartan,aux_weighting,taps,upgrad,pcgrad,cagrad,mgda"
)


def main() -> None:
    names = sorted(path.stem for path in SETTINGS.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--to", type=Path, default=Path("runs/evidence"))
    parser.add_argument(
        "--texts", type=Path, default=Path("data/sentiment"), help="of avil-fast prepare sentiment"
    )
    arguments = parser.parse_args()
    for name in arguments.settings or names:
        path = SETTINGS / f"{name}.yaml"
        if name not in names:
            raise AvilError(f"there is no setting {name!r}; name one of {', '.join(names)}")
        what: FromFile | Domains = FromFile(path)
        data = yaml.safe_load(path.read_text(encoding="utf-8")).get("data")
        if data is not None and "layers" in data:
            states = arguments.to / f"states-{data['layers']}.safetensors"
            if not states.is_file():
                hidden_states(arguments.texts, states, data["layers"])
            what = TunedDomains(path, states)
        elif data is not None:
            embeddings = arguments.to / "embeddings.safetensors"
            if not embeddings.is_file():
                embed(arguments.texts, embeddings)
            what = Domains(path, embeddings)

        def told(method: str, seed: int, done: int, runs: int, setting: str = name) -> None:
            print(f"{setting}: {done} of {runs}: {method}, seed {seed}", file=sys.stderr, flush=True)

        found = compare(
            what, [], parse(arguments.methods), arguments.seeds, arguments.to / name, on_done=told
        ).as_json()
        RESULTS.mkdir(parents=True, exist_ok=True)
        results = RESULTS / f"{name}.json"
        earlier = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else None
        command.write(results, beside(earlier, found))


if __name__ == "__main__":
    try:
        main()
    except (AvilError, Stopped) as error:
        sys.exit(f"{error}")
