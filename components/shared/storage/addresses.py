"""Addresses of files: a local path or `s3://bucket/prefix`, and keys below it."""

import re
from urllib.parse import SplitResult, urlsplit

from gradsift.components.shared.documents.texts import is_valid_unicode
from gradsift.components.shared.errors import InputError

BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
"""Names of buckets that S3's clients take."""


def join_uri(uri: str, *parts: str) -> str:
    """Append key parts to a local path or an `s3://` address."""
    return "/".join([uri.rstrip("/"), *parts])


def is_remote(uri: str) -> bool:
    """Say whether `uri` is an address in object storage rather than a local path."""
    return split_uri(uri)[0] == "s3"


def checked_key(key: str) -> str:
    """Return `key` unchanged if it stays inside its root.

    Raises:
        InputError: the key is empty, absolute, or has a part that is `.`, `..` or holds a backslash or NUL.
    """
    parts = key.split("/")
    if any(part in {"", ".", ".."} or "\\" in part or "\0" in part for part in parts):
        raise InputError(f"The path {key!r} is not allowed: expected a relative path without '..'.")
    return key


def split_address(address: str, expected: str) -> SplitResult:
    """Return the parts of an address that has a scheme.

    Raises:
        InputError: it has a bracket without the other one, or a port that is no number.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise InputError(f"The address {address!r} cannot be read: expected {expected}.") from None
    return parts


def split_uri(uri: str) -> tuple[str, str, str]:
    """Return scheme, bucket and prefix of an `s3://` address, or two empty texts and a local path.

    Raises:
        InputError: the address has another scheme or no bucket.
    """
    if "\0" in uri or not is_valid_unicode(uri):
        raise InputError(
            f"The address {uri!r} holds a NUL or is no valid Unicode: expected a path or address."
        )
    if "://" not in uri:
        if not uri:
            raise InputError("An empty address was given: expected a local path or an s3:// address.")
        return "", "", uri
    parts = split_address(uri, "a local path or s3://bucket/prefix")
    if "@" in parts.netloc:
        raise InputError(
            f"The address {uri} holds a user name or password: expected s3://bucket/prefix, as credentials come "
            "from the environment alone."
        )
    prefix = parts.path.strip("/")
    if parts.scheme != "s3" or not BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise InputError(
            f"The address {uri!r} is not supported: expected a local path or s3://bucket/prefix, "
            "without '?' and '#'."
        )
    if prefix:
        checked_key(prefix)
    return "s3", parts.netloc, prefix
