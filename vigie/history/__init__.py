"""The history: the recent readings of each asset, with their results."""
