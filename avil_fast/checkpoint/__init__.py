"""A run on disk: saved at any point of a round, whole or not at all, and taken up again on any number of ranks."""
