"""Runs a job on Ray: the session, the workers, and what they need before they start."""
