"""The data types of the API."""
