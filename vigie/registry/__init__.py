"""Query MLflow's registry: which versions exist, which one serves; open a version as data."""
