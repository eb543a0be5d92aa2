"""What the miniature is made of: problems, two CoT styles, pretraining text, a tokenizer, all from seeds."""
