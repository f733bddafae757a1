"""A file for each revision, named by its number; what one has once said is never changed."""
