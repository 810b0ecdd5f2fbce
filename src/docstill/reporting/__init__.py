"""The report: one self-contained page from the results of a run."""
