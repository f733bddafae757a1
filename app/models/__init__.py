"""Hands on what is asked and answered."""
