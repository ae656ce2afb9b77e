"""Packages and the C++ extension; everything else is in pyproject.toml."""

from setuptools import setup

setup(
    packages=[
        "avil_fast",
        "avil_fast.deltas",
        "avil_fast.engine",
        "avil_fast.methods",
        "avil_fast.ops",
        "avil_fast.report",
        "avil_fast.tasks",
    ],
    package_data={"avil_fast": ["py.typed"], "avil_fast.report": ["*.html.j2"]},
)
