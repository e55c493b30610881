"""The page that says how the program does: versions, counters, connections, losses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .data import JsonObject
from .markup import Html, join, tag
from .pages import card, table
from .words import Words


def health(status: JsonObject, program: JsonObject, words: Words) -> Html:
    """The page. `status` is that of the app, by the keys of snapshot.py; `program` has version and age."""
    facts = [
        (words.title("version"), program["version"]),
        (words.title("running for"), words.duration(program["uptime_seconds"])),
        (words.title("memory"), f"{words.number(program['memory_kilobytes'] / 1024, 1)} MiB"),
    ]
    return join(
        card(_list(facts)),
        card(tag("h2", words.title("broker")), broker(status, words)),
        card(tag("h2", words.title("inverters")), _inverters(status.get("inverters", {}), words)),
        card(tag("h2", words.title("last losses")), _losses(status.get("losses", []), words)),
        _dropped(status.get("dropped", []), words),
    )


def broker(status: JsonObject, words: Words) -> Html:
    """A line for each server that readings are sent to, and what waits for one."""
    mqtt = status.get("outputs", {}).get("mqtt")
    if not mqtt:
        return tag("p", words.title("broker"), ": ", words["none"])
    lines = [tag("p", one) for one in dict.fromkeys(_connections(mqtt, words))]
    kept = (mqtt.get("features", {}).get("backlog") or {}).get("kept")
    if kept:
        lines.append(tag("p", f"{words.title('waiting messages')}: {words.number(kept)}"))
    return join(*(lines or [tag("p", words.title("broker"), ": ", words["not connected"])]))


def _connections(mqtt: JsonObject, words: Words) -> Iterator[Html]:
    found = mqtt.get("connections", {})
    for one in found.values() if isinstance(found, Mapping) else found:
        if one.get("connected_seconds") is not None:
            said = f"{words['connected']}, {one['server']}, {words.duration(one['connected_seconds'])}"
            yield tag("span", words.title("broker"), ": ", tag("span", said, class_="good"))
        else:
            said = ", ".join(
                text for text in (words["not connected"], one.get("server"), one.get("why_not")) if text
            )
            yield tag("span", words.title("broker"), ": ", tag("span", said, class_="fault"))


def _list(facts: Sequence[tuple[str, object]]) -> Html:
    return join(*[tag("p", name, ": ", tag("b", value), class_="facts") for name, value in facts])


def _inverters(inverters: Mapping[str, JsonObject], words: Words) -> Html:
    if not inverters:
        return tag("p", words.title("no inverter yet"))
    rows = [
        (
            serial,
            words["away"] if not one.get("online") else words["live"],
            one.get("firmware") or "",
            ", ".join(f"{reason} ({count})" for reason, count in one.get("refused", {}).items())
            or words["none"],
        )
        for serial, one in inverters.items()
    ]
    return table(("inverter", "now", "version", "refused readings"), rows, words)


def _losses(losses: Sequence[JsonObject], words: Words) -> Html:
    if not losses:
        return tag("p", words["none"])
    rows = [(words.moment(one["lost_epoch"], None), one["reason"]) for one in reversed(losses)]
    return table(("time", "details"), rows, words)


def _dropped(dropped: Sequence[JsonObject], words: Words) -> Html | None:
    if not dropped:
        return None
    # The error itself may name a path; the log has it, and the page is for the whole house.
    parts = [tag("p", one["part"], class_="fault") for one in dropped]
    return card(tag("h2", words.title("dropped parts")), *parts)


def told(status: JsonObject) -> dict[str, Any]:
    """The same for `/api/health`: no path of the machine, no error text that may have one."""
    return {
        "inverters": status.get("inverters", {}),
        "links": [{key: link.get(key) for key in ("state", "bus")} for link in status.get("links", [])],
        "losses": [{key: one[key] for key in ("reason", "lost_epoch")} for one in status.get("losses", [])],
        "dropped": [one["part"] for one in status.get("dropped", [])],
    }
