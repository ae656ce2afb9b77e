"""`AvilTrainer`: avil for users of transformers' Trainer."""
