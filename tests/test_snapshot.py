"""The values that a snapshot takes, and those that it never lets in."""

import json

import pytest

from goodwe.config import Secret
from goodwe.snapshot import Snapshot


def test_it_is_json_with_the_same_content():
    content = {"a": {"b": [1, 2.5, None, True, "x"]}, "c": ()}
    assert json.loads(Snapshot(content).json()) == {"a": {"b": [1, 2.5, None, True, "x"]}, "c": []}


def test_nothing_in_it_can_be_changed():
    inner = {"state": "open"}
    snapshot = Snapshot({"links": [inner]})
    inner["state"] = "closed"
    assert snapshot["links"][0]["state"] == "open", "what it was made of is not it"
    with pytest.raises(TypeError):
        snapshot["links"][0]["state"] = "closed"
    with pytest.raises(TypeError):
        snapshot["links"] = ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"mqtt": {"password": Secret("hunter2")}}, "snapshot.mqtt.password is a Secret"),
        ({"mqtt": [Secret("hunter2")]}, r"snapshot.mqtt\[\] is a Secret"),
        ({Secret("hunter2"): 1}, "a key that is a Secret"),
        ({"a": b"bytes"}, "snapshot.a is a bytes"),
        ({"a": {1: 2}}, "snapshot.a has a key that is a int"),
        ({"a": {1, 2}}, "snapshot.a is a set"),
    ],
)
def test_secrets_and_what_is_not_plain_never_get_in(content, told):
    with pytest.raises(TypeError, match=told) as caught:
        Snapshot(content)
    assert "hunter2" not in str(caught.value)


def test_numbers_that_json_lacks_are_null():
    assert Snapshot({"a": float("inf"), "b": float("nan")}).json() == '{"a": null, "b": null}'
