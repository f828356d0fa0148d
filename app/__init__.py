"""Postern: protects the links in delivered mail, decides at the click, reports, and takes it all back."""
