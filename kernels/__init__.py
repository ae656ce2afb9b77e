"""The four hot operations as Triton kernels, one per file: each beside its reference in `avil_fast/ops`.

A call covers all partitions of a rank in one launch. Without a GPU they run in Triton's interpreter
(`TRITON_INTERPRET=1`), slowly, and can be compiled ahead of time for one.
"""
