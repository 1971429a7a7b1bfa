"""``python -m daskcal``: the command line, where its script is not on the path."""

from daskcal.cli import main

main(prog_name="daskcal")
