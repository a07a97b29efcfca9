"""Sweeps: what jobs there are, which of them still have to run, and the search by Optuna."""
