"""Documents: pictures read safely, class folders, Donut folders, JSON as tokens, augmentation, validation."""
