"""What lies on disk, which images come when, and how they become batches."""
