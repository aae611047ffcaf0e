"""The search spec: space, distributions, objectives, arms, and their checks."""
