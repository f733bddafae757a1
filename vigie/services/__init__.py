"""What can be done with Vigie from Python: the guide's services."""
