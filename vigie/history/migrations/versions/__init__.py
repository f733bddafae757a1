"""One file for each revision, named by its number; a released revision never changes."""
