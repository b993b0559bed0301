"""The benchmarks run and tell what they promise; what they measure is for a quiet machine."""
