"""One module a rule: read inputs, call a library, write outputs and the manifest."""
