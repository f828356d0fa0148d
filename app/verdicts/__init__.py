"""Verdicts: what is thought of a URL, and the evidence for it."""
