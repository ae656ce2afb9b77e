"""Runs set side by side: of several configs, or of several methods over seeds."""
