"""A search under way: driver, journal, trials, and Ray Tune's adapters."""
