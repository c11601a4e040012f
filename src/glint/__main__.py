"""`python -m glint` is the same as `glint`."""

from glint.cli.main import main

main()
