"""Annotations as labeling tools export them: a module for each format, and one that paints them."""
