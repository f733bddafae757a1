"""MLflow, asked: which versions there are, which one serves, and how it is opened, as data."""
