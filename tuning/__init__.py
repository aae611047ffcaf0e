"""How often a job runs: searches over the fields of its spec."""
