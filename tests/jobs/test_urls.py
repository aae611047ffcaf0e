"""Passwords in URLs, which never reach a log, an error or a run's parameters."""

from __future__ import annotations

import pytest

from jobs.urls import absolute, redact

SECRETS = {
    "postgresql://u:SE/CRET@h/db": "postgresql://u@h/db",
    "postgresql+psycopg2://u:SE?CRET@h:5432/db": "postgresql+psycopg2://u@h:5432/db",
    "mysql://u:SE#CRET@h/db": "mysql://u@h/db",
    "postgresql://u:12/SECRET@h/db": "postgresql://u@h/db",
    "mssql+pyodbc://u:SE@CRET@h/db": "mssql+pyodbc://u@h/db",
    "https://u:SE/CRET@h/x": "https://u@h/x",
    "https://:SECRET@h": "https://@h",
    "https://h:443/x and postgresql://u:SECRET@h/db": "https://h:443/x and postgresql://u@h/db",
    "https://h/x?api_key=SECRET": "https://h/x?api_key=",
    "https://h/x?a=1&key=SECRET&b=2": "https://h/x?a=1&key=&b=2",
    "https://h/x?pwd=SECRET": "https://h/x?pwd=",
    "https://h/x?passwd=SECRET": "https://h/x?passwd=",
    "https://h/x?pass=SECRET": "https://h/x?pass=",
    "mssql:///?odbc_connect=DRIVER%3Dx%3BPWD%3DSECRET": "mssql:///?odbc_connect=",
    "jdbc:x://h;user=u;password=SECRET": "jdbc:x://h;user=u;password=",
    "https://h/#access_token=SECRET": "https://h/#access_token=",
    "s3://b/x?X-Amz-Signature=SECRET": "s3://b/x?X-Amz-Signature=",
}
PLAIN = (
    "http://host:5000/a@b",
    "http://127.0.0.1:5000 did not answer, ask a@b.org",
    "postgresql://u@h:5432/db",
    "s3://bucket/class:1/a@b.png",
    "https://h/x?monkey=1&keyboard=2&passage=3",
    "a note; key: x",
)


@pytest.mark.parametrize("text", SECRETS)
def test_what_is_secret_is_removed(text: str) -> None:
    assert redact(text) == SECRETS[text]
    if " " not in text:
        with pytest.raises(ValueError, match=r"data\.root .* was given with a password, key or signature"):
            absolute(text, "data.root")


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_not_stays(text: str) -> None:
    assert redact(text) == text


def test_zero_bytes_are_in_no_path() -> None:
    with pytest.raises(ValueError, match=r"data\.root '~\\x00' holds a zero byte"):
        absolute("~\0", "data.root")
