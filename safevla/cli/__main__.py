"""`python -m safevla.cli`: the same as the `safevla` command."""

from safevla.cli import main

main()
