//! Runs Vitral's CUDA kernels without a GPU, for tests.
