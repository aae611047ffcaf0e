"""How runs are recorded: a journal each, written by one Recorder and shipped to MLflow."""
