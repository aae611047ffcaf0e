"""What MLflow loads and serves: it keeps this file beside the model, with ``jobs/``; nothing else of this project is
needed.

A row is an image: base64 text or bytes of an encoded file (JPEG, PNG, ...), or nested lists ``(height, width)`` or
``(height, width, channels)`` of whole numbers from 0 to 255.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from PIL import Image

COLUMN = "image"
_AT_ONCE = 16
"""Rows that are decoded before the first of them is fitted to the model's size."""


class Classifier(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]
    """A trained classifier behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Read the model, onto a GPU where there is one."""
        import torch

        from jobs.models import load

        self.model = load(context.artifacts["model"])
        self.model.network.to("cuda" if torch.cuda.is_available() else "cpu")

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Class, its probability and those of all classes, a row an image; preprocessing is the model's own."""
        if COLUMN not in model_input:
            raise _refusal(f"there is no column {COLUMN!r}; there is {', '.join(map(str, model_input.columns))}")
        rows, classes = list(enumerate(model_input[COLUMN])), self.model.classes
        parts = [  # some at a time, for images may be large before they are fitted
            self.model.predict([_image(value, row) for row, value in rows[start : start + _AT_ONCE]])
            for start in range(0, len(rows), _AT_ONCE)
        ]
        found = np.concatenate([np.zeros((0, len(classes))), *parts]).astype(float)
        return pd.DataFrame(
            {
                "class": [classes[best] for best in found.argmax(1)],
                "probability": found.max(1),
                "probabilities": [dict(zip(classes, row.tolist(), strict=True)) for row in found],
            }
        )


def _image(value: Any, row: int) -> Image.Image:
    from jobs.data.decode import UnreadableError, decode, pixels

    try:
        if isinstance(value, str):
            value = value.partition(",")[2] if value.startswith("data:") else value
            value = base64.b64decode("".join(value.split()), validate=True)
        image = decode(bytes(value)) if isinstance(value, bytes | bytearray) else _of_array(value)
        pixels(image, 3)
    except (UnreadableError, binascii.Error, ValueError) as error:
        raise _refusal(f"image {row} cannot be read: {error}") from None
    return image


def _of_array(value: Any) -> Image.Image:
    array = np.asarray(value)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(f"an array must be (height, width) or (height, width, 1, 3 or 4), got {array.shape}")
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise ValueError("values of an array must be whole numbers from 0 to 255")
    return Image.fromarray(array.astype(np.uint8))


def _refusal(text: str) -> MlflowException:
    return MlflowException(text, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(Classifier())
