"""What pyproject.toml cannot say: the C++ extension, and that kernels/ installs as avil_fast.kernels."""

import os
import sys
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import find_packages, setup

ROOT = Path(__file__).parent
OPTIMISE = ["/O2"] if sys.platform == "win32" else ["-O3"]

extension = Pybind11Extension(
    "avil_fast._C",
    sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/*.cpp")),
    depends=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/*.h")),
    cxx_std=17,
    extra_compile_args=[*OPTIMISE, *os.environ.get("AVIL_CXXFLAGS", "").split()],
    extra_link_args=os.environ.get("AVIL_CXXFLAGS", "").split(),
    # Without a compiler the package still installs, and runs on the torch reference.
    optional=True,
)

ParallelCompile("AVIL_BUILD_JOBS", default=0).install()

packages = find_packages(include=["avil_fast", "avil_fast.*"])
package_dir = {}
if (ROOT / "kernels").is_dir():
    # Not a top-level `kernels`: transformers looks for Hugging Face's package of that name.
    packages.append("avil_fast.kernels")
    package_dir["avil_fast.kernels"] = "kernels"

setup(
    packages=packages,
    package_dir=package_dir,
    package_data={"avil_fast": ["py.typed", "*.pyi"], "avil_fast.report": ["*.html.j2"]},
    ext_modules=[extension],
)
