"""Validation, quality checks, sampling and scaling of input data."""
