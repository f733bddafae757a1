"""Calibration of raw scores to p-values, their combination, trends, and explanations."""
