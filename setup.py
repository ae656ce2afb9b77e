"""Packages and the C++ extension; everything else is in pyproject.toml."""

import os
import sys
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import find_packages, setup

ROOT = Path(__file__).parent
OPTIMISE = ["/O2"] if sys.platform == "win32" else ["-O3"]
EXTRA = os.environ.get("AVIL_CXXFLAGS", "").split()


def sources(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(f"csrc/{pattern}"))


ParallelCompile(default=0).install()

setup(
    packages=[*find_packages(include=["avil_fast", "avil_fast.*"]), "avil_fast.kernels"],
    # Not a top-level `kernels`: transformers looks for Hugging Face's package of that name.
    package_dir={"avil_fast.kernels": "kernels"},
    package_data={"avil_fast": ["py.typed", "*.pyi"], "avil_fast.report": ["*.j2"]},
    ext_modules=[
        Pybind11Extension(
            "avil_fast._C",
            sources("*.cpp"),
            depends=sources("*.h"),
            cxx_std=17,
            extra_compile_args=[*OPTIMISE, *EXTRA],
            extra_link_args=EXTRA,
            # Without a compiler the package still installs, and runs on the torch reference.
            optional=True,
        )
    ],
)
