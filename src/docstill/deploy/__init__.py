"""Measuring on the machine at hand."""
