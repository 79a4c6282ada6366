"""The CUDA engine beside its peers on a card, and what its kernels compile to without one."""
