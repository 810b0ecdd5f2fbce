"""Similarity of two models on the same documents: their layers (CKA) and their answers."""
