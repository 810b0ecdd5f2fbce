"""Which weights go, and that they stay gone."""
