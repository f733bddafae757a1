"""Detection algorithms: seeded functions of arrays, without clock, settings or network."""
