"""MLflow's settings that are others here, which it reads when it is imported and later."""

import os

_SETTINGS = {  # MLflow's own defaults wait 246 s for a dead server, and flood a small one with threads
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ASYNC_LOGGING_THREADPOOL_SIZE": "1",
    "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS": "2",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def apply() -> None:
    """Set them in the environment, but for those that the user has set."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
