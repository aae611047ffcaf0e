"""A disk that is full, by the name of what could not be written."""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of a used-up quota."""


class DiskFullError(OSError):
    """There is no space left; ``filename`` is what could not be written."""

    def __str__(self) -> str:
        return f"{self.strerror}: {self.filename} could not be written"
