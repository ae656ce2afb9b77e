"""Where αVIL wins, ties and loses: all methods on real data at the same budget, over seeds."""
