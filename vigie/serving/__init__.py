"""Which models answer for an asset: what serves, by scope and algorithm, and how it changes."""
