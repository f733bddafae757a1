"""Matrices on the way in, what is wrong with them, and how they are scaled and thinned."""
