"""The report of a search: its page, its figures and its tables."""
