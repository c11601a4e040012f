"""Measures a model on a data set with truth: what a number means is defined in docs/evaluation.md."""
