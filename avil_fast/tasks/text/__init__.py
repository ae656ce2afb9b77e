"""Tasks on texts, from the data that people have, and the models of transformers that learn them."""
