"""Hands on the services."""
