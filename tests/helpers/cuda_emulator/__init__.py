"""CUDA kernels run on the CPU: docs/cuda.md says how, and what that cannot see."""
