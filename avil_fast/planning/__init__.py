"""What a run will take, before anything is loaded: memory by part, bytes moved, time."""
