"""Benchmarks of redismr against programs written by hand. Not part of the package."""
