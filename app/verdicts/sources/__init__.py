"""Threat-intelligence sources: others' lists and services, each optional, each behind one of two interfaces."""
