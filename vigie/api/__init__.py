"""HTTP: it translates, and holds no decisions."""
