"""One training as a function, and the job that trains in a process of its own."""
