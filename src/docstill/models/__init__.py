"""Model folders, sizes from scratch, size accounting, taps."""
