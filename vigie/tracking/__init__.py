"""The bridge to MLflow: bounded calls, what a training leaves there, and how it is opened again."""
