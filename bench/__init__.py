"""Benchmarks: whole-process figures, each beside the plain thing it is compared with."""
