"""The LLM judge: its prompt, the verdict in its reply, what a backend is."""
