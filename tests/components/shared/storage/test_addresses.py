"""Addresses of storages and their keys: which are accepted, and how they are joined."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.addresses import checked_key, is_remote, join_uri
from gradsift.components.shared.storage.storage import open_storage


@given(st.text(max_size=20))
def test_a_checked_key_stays_inside_any_root(key: str) -> None:
    try:
        checked_key(key)
    except InputError:
        return
    inside = os.path.normpath(f"/root/{key}")
    assert inside == f"/root/{key}"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "s3://",
        "s3:///prefix",
        "gs://bucket",
        "file:///tmp",
        "s3://bucket/../x",
        "s3://b/p?x=1",
        "s3://b/p#x",
        "s3://[",
        "http://[x",
        "s3://b:port/p",
        "s3://a bucket/p",
        "s3://" + 300 * "b",
    ],
)
def test_an_unusable_address_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match=r"local path|relative path"):
        open_storage(uri)


def test_addresses_are_joined_and_told_apart() -> None:
    assert join_uri("s3://bucket/prefix/", "a", "b") == "s3://bucket/prefix/a/b"
    assert join_uri("/run", "a") == "/run/a"
    assert is_remote("s3://bucket")
    assert not is_remote("runs/s3")
