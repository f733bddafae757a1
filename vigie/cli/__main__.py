"""``python -m vigie.cli``."""

from vigie.cli import main

main()
