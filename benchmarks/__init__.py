"""Benchmarks: ours beside a named peer in one run, as ratios. Nothing of the product imports this (``README.md``)."""
