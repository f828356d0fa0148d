"""Policies: the tenant's lists and what a verdict leads to."""
