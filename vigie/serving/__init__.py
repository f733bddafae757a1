"""The models that serve, by scope and algorithm, and their updates from the registry."""
