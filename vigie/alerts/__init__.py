"""Telling people and programs of alarms: what a message says, and the ways that it goes."""
