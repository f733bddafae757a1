"""What was measured and decided: the recent rows of each asset, and the results."""
