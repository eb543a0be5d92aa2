"""The response store and the verdict ledger, each an SQLite file."""
