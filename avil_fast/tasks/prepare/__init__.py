"""Makes data files and small models out of what lies on the disk."""
