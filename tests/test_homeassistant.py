"""Discovery messages, held against what Home Assistant 2026.11 accepts, rule by rule, and golden files."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from goodwe import __version__
from goodwe.config import parse
from goodwe.outputs.mqtt.alarms import LOOK_EVERY
from goodwe.outputs.mqtt.homeassistant import (
    ALARMS,
    RETIRED,
    Announcer,
    discovery_topic,
    is_ours,
    object_id,
)
from goodwe.outputs.mqtt.message import ALARM_ENTITIES
from goodwe.protocol import fields

SERIAL = "1006KDTU13500023"
INFOS = {"idInfo": {"modelName": "GW6000-DT", "firmwareVersion": "1010C"}}
GOLDEN = Path(__file__).parent / "golden"

ROOT_KEYS = {"dev", "o", "cmps", "stat_t", "cmd_t", "qos", "e", "message_expiry_interval"}
ROOT_KEYS |= {"avty", "avty_t", "avty_tpl", "avty_mode", "pl_avail", "pl_not_avail"}
DEVICE_KEYS = {"ids", "cns", "name", "mf", "mdl", "mdl_id", "hw", "sw", "sn", "sa", "cu"}
ORIGIN_KEYS = {"name", "sw", "url"}
COMPONENT_KEYS = {"p", "name", "uniq_id", "stat_t", "val_tpl", "unit_of_meas", "dev_cla", "stat_cla", "ops"}
COMPONENT_KEYS |= {"ent_cat", "en", "exp_aft", "frc_upd", "sug_dsp_prc", "def_ent_id", "ic", "avty", "avty_t"}
COMPONENT_KEYS |= {"avty_tpl", "avty_mode", "pl_avail", "pl_not_avail", "pl_on", "pl_off", "json_attr_t"}
CONTROL_KEYS = {"cmd_t", "min", "max", "step"}
UNITS = {
    "power": ({"W"}, {"measurement"}),
    "voltage": ({"V"}, {"measurement"}),
    "current": ({"A", "mA"}, {"measurement"}),
    "frequency": ({"Hz"}, {"measurement"}),
    "temperature": ({"°C"}, {"measurement"}),
    "energy": ({"kWh"}, {"total_increasing", "total"}),
    "duration": ({"h"}, {"measurement", "total", "total_increasing"}),
}


def announced(phases=3, *, keep=False, control=False, language="en", serial=SERIAL, infos=INFOS, alarms=None):
    settings, _ = parse("", "test")
    mqtt = replace(settings.mqtt, commands=control, control=control, language=language)
    announcer = Announcer(settings.homeassistant, mqtt, silence=300.0, follows_online=keep)
    return announcer.message(serial, phases, infos, alarms)


def payload(**options):
    return json.loads(announced(**options).payload)


EVERY_KIND = [
    {"phases": phases, "keep": keep, "control": control, "language": language}
    for phases, keep, control, language in [
        *((1, False, False, "en"), (3, False, False, "en"), (3, True, False, "nl")),
        *((1, False, True, "de"), (3, True, True, "pt")),
    ]
]
every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=str)


@every_kind
def test_message_is_the_golden_one(kind):
    name = "-".join(str(value) for value in kind.values()) + ".json"
    expected = (GOLDEN / name).read_text("utf-8")
    root = payload(**kind)
    assert root["o"].pop("sw") == __version__
    shown = json.dumps(root, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert shown == expected


# rule by rule


def test_topic_has_only_the_characters_that_are_allowed():
    message = announced()
    assert message.topic == f"homeassistant/device/goodwe_{SERIAL}/config"
    assert (message.qos, message.retain) == (1, True)
    assert object_id("1500 0DT.166W0157") == "goodwe_1500_0DT_166W0157"
    assert re.fullmatch(r"ha/device/[A-Za-z0-9_-]+/config", discovery_topic("ha", "a.b c:d"))


@every_kind
def test_keys_of_root_device_and_origin_are_known_and_complete(kind):
    root = payload(**kind)
    assert set(root) <= ROOT_KEYS, "~ or another key rejects everything"
    assert set(root["dev"]) <= DEVICE_KEYS
    assert root["dev"]["ids"] == [f"goodwe_{SERIAL}"]
    assert set(root["o"]) <= ORIGIN_KEYS
    assert root["o"]["name"]
    assert re.fullmatch(r"https://[a-z.]+/\S+", root["o"]["url"])
    assert (root["dev"]["mdl"], root["dev"]["sw"], root["dev"]["sn"]) == ("GW6000-DT", "1010C", SERIAL)


def test_device_is_announced_without_what_it_has_not_told_yet():
    device = payload(infos={})["dev"]
    assert set(device) == {"ids", "name", "mf", "sn"}


@every_kind
def test_each_component_has_platform_and_unique_id_and_known_keys(kind):
    components = payload(**kind)["cmps"]
    ids = [component.get("uniq_id") for component in components.values() if len(component) > 1]
    assert len(ids) == len(set(ids))
    for key, component in components.items():
        assert component["p"] in {"sensor", "binary_sensor", "number", "button"}
        if len(component) == 1:
            assert not kind["control"]
            assert key in {"limit", "start", "stop"}, "only so a component is removed"
            continue
        known = COMPONENT_KEYS | (CONTROL_KEYS if component["p"] in {"number", "button"} else set())
        assert set(component) <= known
        assert component["uniq_id"].startswith(f"goodwe_{SERIAL}_")


@every_kind
def test_name_of_an_entity_does_not_repeat_the_devices(kind):
    root = payload(**kind)
    for component in root["cmps"].values():
        assert not component.get("name", "").startswith(root["dev"]["name"])


@every_kind
def test_unit_device_class_and_state_class_fit(kind):
    for component in payload(**kind)["cmps"].values():
        if "unit_of_meas" not in component or component["p"] == "number":
            continue
        units, state_classes = UNITS[component["dev_cla"]]
        assert component["unit_of_meas"] in units
        assert component["stat_cla"] in state_classes
        assert component["sug_dsp_prc"] >= 0
    energy = payload(**kind)["cmps"]
    assert {energy[key]["stat_cla"] for key in ("eDay", "eTotal")} == {"total_increasing"}


@every_kind
def test_availability_is_never_given_twice_and_with_the_payloads_of_online(kind):
    root = payload(**kind)
    assert not {"avty", "avty_t"} & set(root), "the connectivity sensor would inherit it and never show off"
    for key, component in root["cmps"].items():
        assert not {"avty", "avty_t"} <= set(component)
        if "avty_t" in component:
            assert component["avty_t"] == f"goodwe/{SERIAL}/online"
            assert (component["pl_avail"], component["pl_not_avail"]) == ("1", "0")
        follows = kind["keep"] and component["p"] in {"sensor", "binary_sensor"} and key != "connectivity"
        assert ("avty_t" in component) == (follows or component["p"] in {"number", "button"}) or len(
            component
        ) == 1


@every_kind
def test_values_expire_when_the_program_is_dead_and_the_connection_does_not(kind):
    for key, component in payload(**kind)["cmps"].items():
        if component["p"] in {"sensor", "binary_sensor"} and key != "connectivity":
            assert component["exp_aft"] == 400, "the longest silence, and a margin"
        else:
            assert "exp_aft" not in component


@every_kind
def test_diagnostics_are_diagnostic_and_config_is_for_what_can_be_set(kind):
    for component in payload(**kind)["cmps"].values():
        if component["p"] in {"sensor", "binary_sensor"}:
            assert component.get("ent_cat", "diagnostic") == "diagnostic"
        elif len(component) > 1:
            assert component["ent_cat"] == "config"


@every_kind
def test_enum_has_text_options_and_neither_unit_nor_state_class(kind):
    mode = payload(**kind)["cmps"]["workMode"]
    assert mode["dev_cla"] == "enum"
    assert all(isinstance(option, str) for option in mode["ops"])
    assert len(mode["ops"]) == len(set(mode["ops"]))
    assert not {"unit_of_meas", "stat_cla"} & set(mode)


@every_kind
def test_binary_sensors_have_the_payloads_of_their_topics(kind):
    for component in payload(**kind)["cmps"].values():
        if component["p"] == "binary_sensor":
            assert (component["pl_on"], component["pl_off"]) == ("1", "0")


def test_connection_is_the_topic_online():
    connection = payload()["cmps"]["connectivity"]
    assert (connection["stat_t"], connection["dev_cla"]) == (f"goodwe/{SERIAL}/online", "connectivity")
    assert "val_tpl" not in connection


def test_each_measured_row_is_a_component_of_the_phases_that_are_there():
    measured = {row.key for row in fields.RUNNING if row.unit and not row.key.endswith("Fault")}
    others = {"workMode", "problem", "faults", "connectivity", "limit", "start", "stop"}
    assert set(payload(phases=3)["cmps"]) == measured | others
    single = measured - {row.key for row in fields.RUNNING if row.three_phase}
    assert set(payload(phases=1)["cmps"]) == single | others


def test_no_fault_word_is_shown_as_a_measurement():
    """PROTOCOL 5.3: newer firmware puts other things there."""
    assert not {row.key for row in fields.FAULTS} & set(payload()["cmps"])


def test_control_is_what_commands_are_made_of():
    limit = payload(control=True)["cmps"]["limit"]
    assert limit["cmd_t"] == f"goodwe-command/{SERIAL}/limit"
    assert limit["stat_t"] == f"goodwe-command/{SERIAL}/limit/state"
    assert (limit["min"], limit["max"], limit["step"]) == (0, 100, 1)
    assert payload(control=True)["cmps"]["stop"]["cmd_t"] == f"goodwe-command/{SERIAL}/stop"
    assert payload(control=False)["cmps"]["limit"] == {"p": "number"}


def test_alarms_are_components_by_the_rules():
    components = payload(alarms=dict.fromkeys(ALARMS, True))["cmps"]
    assert set(components) == set(payload()["cmps"]) | set(ALARMS)
    assert tuple(ALARMS) == ALARM_ENTITIES
    for key in ALARMS:
        component = components[key]
        assert set(component) <= COMPONENT_KEYS
        assert component["stat_t"] == component["json_attr_t"] == f"goodwe/{SERIAL}/alarms"
        assert component["uniq_id"] == f"goodwe_{SERIAL}_{key}"
        assert component["exp_aft"] > 3 * LOOK_EVERY, "a message may be late"
        assert not {"unit_of_meas", "stat_cla", "avty_t"} & set(component)
    assert components["lowProduction"]["dev_cla"] == "problem"
    assert {components[key]["dev_cla"] for key in ("faultBegan", "faultEnded")} == {"timestamp"}


def test_alarm_that_cannot_be_known_is_taken_back():
    components = payload(alarms={"faultBegan": True, "lowProduction": False})["cmps"]
    assert components["lowProduction"] == {"p": "binary_sensor"}
    assert components["faultBegan"]["p"] == "sensor"
    assert "faultEnded" not in components


def test_component_that_was_retired_is_removed(monkeypatch):
    monkeypatch.setitem(RETIRED, "old", "sensor")
    assert payload()["cmps"]["old"] == {"p": "sensor"}


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (b"", False),
        (b"rubbish", False),
        (b"[]", False),
        (b'{"o": {"name": "zigbee2mqtt"}}', False),
        (b'{"o": {"name": "GoodWeUSBLogger"}}', True),
    ],
)
def test_messages_of_this_program_are_told_from_others(text, ours):
    assert is_ours(text) is ours
    assert is_ours(announced().payload.encode())
