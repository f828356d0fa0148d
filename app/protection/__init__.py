"""The journeys Protect, Turn and Restore: from a notification to a verified message and back."""
