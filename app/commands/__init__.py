"""What the commands of :mod:`app.cli` do, by subject; imported when a command runs, so that ``--help`` is quick."""
