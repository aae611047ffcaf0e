"""All that a recorder imports to reach MLflow, for processes that are copied."""

from orchestrator.tracking import settings

settings.apply()

import mlflow.store.tracking.sqlalchemy_store  # noqa: E402
import mlflow.tracking  # noqa: E402

__all__ = ["mlflow"]
