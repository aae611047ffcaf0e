"""URLs where a path may stand too (``s3://``, ``gs://``, ``file://``, whatever fsspec reaches), and errors in words."""

from __future__ import annotations

import os
import re
from typing import Any

_DATABASES = r"(?:postgres(?:ql)?|cockroachdb|mysql|mariadb|mssql|oracle)(?:\+\w+)?"
_PASSWORD = re.compile(
    # of databases all up to the @ is the password, as SQLAlchemy reads it; elsewhere digits before a / are a port
    rf"(?P<scheme>{_DATABASES}://|://(?![^/@?#:\s]*:\d*(?:[/?#\s]|$)))(?P<user>[^/@?#:\s]*):[^@\n]*@(?:[^/?#@\s]*@)*"
    r"|(?<=[?&;#])(?P<name>[\w.-]*(?:password|passwd|secret|token|signature|credential|api[_-]?key|access[_-]?key)[\w.-]*"
    r"|sig|key|pwd|pass|auth|odbc_connect)=[^&#\s]*",
    re.IGNORECASE,
)
_PACKAGES = {
    "s3": "'image-classification-orchestrator[s3]'",
    "s3a": "'image-classification-orchestrator[s3]'",
    "gs": "'image-classification-orchestrator[gs]'",
    "gcs": "'image-classification-orchestrator[gs]'",
}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
_ABROAD = re.compile(r"NoCredentials|PartialCredentials|ProfileNotFound|TokenRetrieval|RefreshError|DefaultCredentials")
_OUT_OF_REACH = re.compile(
    r"EndpointConnection|ConnectTimeout|ClientConnector|ConnectionClosed|ConnectionRefused|Timeout"
)


def is_url(path: str) -> bool:
    """Whether it names something on another machine: a URL that is not ``file://``."""
    return "://" in path and not path.startswith(("file://", "local://"))


def local(path: str) -> str:
    """A path of this machine as it is written for ``open``: absolute, without ``file://`` and ``~``."""
    return os.path.abspath(os.path.expanduser(re.sub(r"^(file|local)://", "", path)))


def absolute(path: str, what: str) -> str:
    """The path, absolute; a URL is left alone.

    Raises:
        ValueError: the URL has a password in it; ``what`` is the field that gives it.
    """
    if "\0" in path:
        raise ValueError(f"{what} {path!r} holds a zero byte, which no path has; delete it")
    if "://" not in path:
        return os.path.abspath(os.path.expanduser(path))
    if redact(path) != path:
        variables = _CREDENTIALS.get(_scheme(path), "what its library reads (see fsspec)")
        raise ValueError(
            f"{what} {redact(path)!r} was given with a password, key or signature; leave it out, and set {variables} "
            "in the environment of every machine"
        )
    return path


def filesystem(url: str, what: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path inside it; nothing is asked of it yet.

    Raises:
        ValueError: the URL has a password in it, is of no known kind, or its package is missing.
    """
    import fsspec

    absolute(url, what)
    try:
        fs, inside = fsspec.core.url_to_fs(url)
    except Exception as error:  # ImportError, ValueError, whatever a file system's own class raises
        raise refused(url, what, error) from error
    return fs, inside.rstrip("/")


def make_folder(fs: Any, path: str) -> None:
    """Make a folder of a file system and all above it; a bucket needs none, and may not let us ask for it."""
    try:
        fs.makedirs(path, exist_ok=True)
    except PermissionError:
        pass  # else writing to it says what is wrong


def refused(url: str, what: str, error: BaseException) -> ValueError:
    """The error to raise: what went wrong with a URL, and the cure."""
    name, scheme = type(error).__name__, _scheme(url)
    first = redact((str(error).strip().splitlines() or [name])[0])
    if isinstance(error, ImportError):
        cure = f"install what reads {scheme}://: pip install {_PACKAGES.get(scheme, f'({first})')}"
        return ValueError(f"{what} {url} needs a package that is missing; {cure}")
    if lacks_bucket(error):
        bucket = url.split("://", 1)[1].split("/", 1)[0]
        cure = f"there is no bucket {bucket}; make it, or mend its name"
    elif isinstance(error, FileNotFoundError):
        cure = "there is nothing there; mend the URL"
    elif _ABROAD.search(name) or "anonymous" in first.lower():
        cure = f"there are no credentials; set {_CREDENTIALS.get(scheme, 'them')} in the environment of every machine"
    elif isinstance(error, PermissionError):
        cure = f"{first}; give credentials that are allowed to ({_CREDENTIALS.get(scheme, 'in the environment')})"
    elif _OUT_OF_REACH.search(name):
        endpoint = " (AWS_ENDPOINT_URL_S3 names another one than Amazon's)" if scheme in ("s3", "s3a") else ""
        cure = f"its server does not answer: {first}; look at the network and the address{endpoint}"
    else:
        cure = first
    return ValueError(f"{what} {url} cannot be used: {cure}")


def lacks_bucket(error: BaseException) -> bool:
    """Whether a storage says that it has no such bucket at all, rather than nothing of that name in it."""
    return isinstance(error, FileNotFoundError) and "bucket does not exist" in str(error)


def redact(text: str) -> str:
    """The text with the passwords of all URLs in it removed; user names stay."""
    return _PASSWORD.sub(
        lambda match: f"{match['name']}=" if match["name"] else f"{match['scheme']}{match['user']}@", text
    )


def _scheme(url: str) -> str:
    return url.split("://", 1)[0].split("::")[-1].lower()
