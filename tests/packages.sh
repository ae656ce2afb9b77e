#!/bin/sh
# Build the sdist, and a wheel from it; install each into an environment of its own, with and without the extras,
# and train in an empty folder. From the checkout: make packages. PYTHON has `build` and what pyproject.toml needs.
set -eu
cd "$(dirname "$0")/.."
python=$(cd "$(dirname "${PYTHON:-.venv/bin/python}")" && pwd)/python
constraints=$PWD/constraints.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Of a clone, so that nothing is built of what lies in the checkout beside it.
git clone --quiet . "$work/clone"
"$python" -m build --no-isolation --outdir "$work/dist" "$work/clone" >"$work/build.log" 2>&1 || {
    tail -n 30 "$work/build.log"
    exit 1
}
wheel=$(ls "$work"/dist/*.whl)
sdist=$(ls "$work"/dist/*.tar.gz)

check() { # NAME PACKAGE[EXTRAS]
    "$python" -m venv "$work/$1"
    bin=$work/$1/bin
    "$bin/pip" install --quiet --disable-pip-version-check --constraint "$constraints" torch
    "$bin/pip" install --quiet --disable-pip-version-check --constraint "$constraints" "$2"
    mkdir "$work/$1-empty"
    cd "$work/$1-empty"
    "$bin/python" -W error -c "import avil_fast, avil_fast._C; assert '/$1/' in avil_fast.__file__"
    test -f "$("$bin/python" -c "import avil_fast; print(avil_fast.__path__[0])")/py.typed"
    OMP_NUM_THREADS=1 "$bin/avil-fast" train \
        rounds=1 steps_per_task=2 alpha.steps=2 finetune.epochs=1 tasks.test=100 >log 2>&1 || {
        cat log
        exit 1
    }
    test -s runs/digits/report.html
    echo "$1: installed, and trained in an empty folder"
}

check wheel "$wheel"
# What is missing is told, with what brings it.
if "$bin/avil-fast" data "$work/clone/configs/sentiment.yaml" >log 2>&1; then cat log && exit 1; fi
grep -q "pip install 'avil-fast\[text\]'" log || (cat log && exit 1)

check extras "$wheel[zero,text]"
DS_ACCELERATOR=cpu "$bin/python" -W error::SyntaxWarning -c "import deepspeed, transformers, datasets, peft"

check sdist "$sdist"
