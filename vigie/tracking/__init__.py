"""Record runs, trainings and models in MLflow, through an outbox on this machine's disk."""
