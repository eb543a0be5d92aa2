"""From a configuration to cells, jobs and the specs that fix their results."""
