"""What runs have come to: read from their folders, as tables, plots and a page."""
