"""Studies: a grid of recipes (teachers × students × methods × seeds), run as one command and read as one table."""
