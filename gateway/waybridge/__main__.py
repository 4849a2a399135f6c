"""`python -m waybridge`."""

from waybridge.cli import main

main()
