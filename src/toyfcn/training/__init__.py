"""From the typed config to a trained network."""
