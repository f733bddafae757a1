"""The mathematics: arrays in, arrays out, seeded; no files, no clock, no settings, no network."""
