"""`python -m docstill.cli`."""

from docstill.cli import main

main()
