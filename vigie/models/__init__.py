"""The words of the API."""
