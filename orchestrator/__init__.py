"""Where a job runs: Ray places it, MLflow tracks it."""
