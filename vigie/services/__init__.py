"""The Python API: the services of the guide."""
