"""The demonstration: two organisations, their mail, and the websites that the mail links to.

All names are invented. Links lead to ``*.localhost`` names, which browsers resolve to this machine, so that
verdicts about host names can be tried without any traffic beyond it.
"""
