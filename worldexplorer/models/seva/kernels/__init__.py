"""Triton kernels for the steps of the network that are bound by memory; imported on a CUDA GPU only."""
