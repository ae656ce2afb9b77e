"""Triton kernels, installed as `avil_fast.kernels`."""
