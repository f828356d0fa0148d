"""The console that the attacks run against: the one of its own tests."""

from tests.integration.console.conftest import console, module_console

__all__ = ["console", "module_console"]
