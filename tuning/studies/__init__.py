"""Questions about arms: confirmation, ablation, verdicts and their statistics."""
