"""The miniature's problems, chain-of-thought texts, pretraining corpus and tokenizer."""
