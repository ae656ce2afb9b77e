"""The verbs of the command `avil-fast`, one file each; what takes long to import is imported when a verb runs."""
