"""The typed schema: every option stands once, with its meaning, unit and bounds."""
