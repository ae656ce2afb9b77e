#!/bin/sh
# Build the extension with the address and undefined-behaviour sanitizers, apart from the one in use, and
# run its tests. From the checkout: csrc/sanitize.sh [options of pytest]. PYTHON and CXX choose the tools.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
target=build/sanitize
runtime() { "${CXX:-g++}" -print-file-name="$1"; }

AVIL_CXXFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" \
    "$python" setup.py --quiet build --build-base build/sanitize-objects --build-lib "$target"

# Python is not built with the sanitizers: their runtimes come first. It leaks on purpose at exit.
# -P keeps the checkout off the path, so that the build above is what is tested.
env LD_PRELOAD="$(runtime libasan.so) $(runtime libubsan.so) $(runtime libstdc++.so.6)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$target" \
    "$python" -P -m pytest -q -p no:cacheprovider \
    --deselect tests/ops/test_cpu.py::test_no_operation_allocates_beyond_its_outputs \
    tests/ops tests/deltas "$@"
