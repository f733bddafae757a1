"""Tables of readings: files and uploads, their columns, and their times."""
