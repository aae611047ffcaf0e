"""The runs that ORCHESTRATOR_HOME holds: their names, checkpoints, storage and comparison."""
