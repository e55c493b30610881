"""Each feature of FEATURES.md has a test that is there; the samples read what is sent."""

import importlib
import json
import re
import time
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from goodwe.events import Reading, Resting
from goodwe.outputs.mqtt.payload import data_json
from goodwe.outputs.mqtt.settings import MqttSettings

from .test_outputs import reading

ROOT = Path(__file__).parents[1]
MQTT = (ROOT / "etc" / "doc" / "mqtt.md").read_text("utf-8")
SAMPLES = (ROOT / "goodwe" / "outputs" / "mqtt" / "SAMPLES.md").read_text("utf-8")
FEATURES = (ROOT / "tests" / "FEATURES.md").read_text("utf-8")
SCENARIOS = re.compile(r"`tests/(system|neighbours)` ((?:s\d\d(?:, | to )?)+)")


def rows() -> list[str]:
    return [line for line in FEATURES.splitlines() if line.startswith("| ")][1:]


def named_tests() -> list[str]:
    """`file.py::test` each; a name without a file is of the file before it."""
    found, file = [], ""
    for name in re.findall(r"`((?:test_\w+\.py)?(?:::test_\w+)?)`", "".join(rows())):
        file, _, test = (name if name[0] != ":" else file + name).partition("::")
        found.append(f"{file}::{test}")
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_feature_names_a_test(row):
    assert re.search(r"`test_\w+\.py|`tests/(system|neighbours)` s\d\d", row.split("|")[3])


@pytest.mark.parametrize("name", named_tests())
def test_each_named_test_is_there(name):
    file, _, test = name.partition("::")
    module = importlib.import_module(f"tests.{file.removesuffix('.py')}")
    assert not test or callable(getattr(module, test))


@pytest.mark.parametrize(("folder", "names"), SCENARIOS.findall(FEATURES))
def test_each_named_scenario_is_there(folder, names):
    if folder == "system":
        there = {path.name[:3] for path in (ROOT / "tests/system/scenarios").glob("s*.py")}
    else:
        there = set(re.findall(r"def (s\d\d)_", (ROOT / "tests/neighbours/scenarios.py").read_text("utf-8")))
    assert set(re.findall(r"s\d\d", names)) <= there


# the samples: played against the real programs by hand; here that they read what is sent


def block(language: str, heading: str, text: str = SAMPLES) -> str:
    """The first code block in that language behind the heading."""
    return text.split(heading)[1].split(f"```{language}\n")[1].split("```")[0]


def last_words() -> tuple[dict, dict]:
    """The last reading of an inverter, and what is said of it five minutes later."""
    last = reading("usb-running-66", 1_700_000_039.6)
    resting = Resting(*last[:4], when=last.when, said=last.when + 300.0)
    return message(last), message(resting)


def message(event: Reading | Resting) -> dict:
    return json.loads(data_json(event, time.gmtime, language="en"))


def test_each_option_that_publishes_more_is_named_with_its_topic():
    more = MQTT.partition("More only when it is switched on: ")[2].partition("\n\n")[0]
    options = [option.key for option in MqttSettings.options() if option.meaning.startswith("Publish ")]
    assert options
    assert set(options) <= set(re.findall(r"\(`(\w+)`\)", more))


def test_example_of_the_json_is_what_is_sent():
    shown = json.loads(block("json", "The JSON of a three-phase inverter", MQTT))
    sent, _ = last_words()
    assert sent["time"] == shown["time"]
    assert sent["lastSeen"] == shown["lastSeen"]
    assert sent["runningInfo"]["timestamp"] == shown["runningInfo"]["timestamp"]
    assert shown.keys() == sent.keys()
    assert shown["runningInfo"].keys() - {"..."} <= sent["runningInfo"].keys()


def test_node_red_sample_stores_under_the_moment_that_the_message_speaks_of():
    nodes = {node["id"]: node for node in json.loads(block("json", "*Node-RED*"))}
    wires = {target for node in nodes.values() for output in node.get("wires", []) for target in output}
    assert wires <= nodes.keys()
    function = nodes["line"]["func"]
    keys = re.findall(r"'(\w+)'", function)
    for sent in last_words():
        assert sent["runningInfo"].keys() >= set(keys) != set()
    (moment,) = re.findall(r"Date\.parse\(d\.(\w+)\)", function)
    before, after = (datetime.fromisoformat(sent[moment]).timestamp() for sent in last_words())
    assert after == before + 300.0
    assert "lastSeen" not in function


def test_telegraf_sample_stores_under_the_moment_that_the_message_speaks_of():
    (parser,) = tomllib.loads(block("toml", "*Telegraf*"))["inputs"]["mqtt_consumer"][0]["json_v2"]
    layout = parser["timestamp_format"]
    for go, c in (("2006", "%Y"), ("-01-", "-%m-"), ("02T", "%dT"), ("15:04:05.000", "%H:%M:%S.%f")):
        layout = layout.replace(go, c)
    layout = layout.replace("Z07:00", "%z")
    before, after = (
        datetime.strptime(sent[parser["timestamp_path"]], layout).timestamp() for sent in last_words()
    )
    assert (before, after) == (1_700_000_039.6, 1_700_000_339.6)
    assert all(key in last_words()[0]["runningInfo"] for key in parser["object"][0]["included_keys"])


# links


@pytest.mark.parametrize(
    "document",
    [path for folder in (".", "goodwe/**", "etc/**") for path in ROOT.glob(f"{folder}/*.md")],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_each_link_to_a_file_of_ours_leads_somewhere(document):
    text = document.read_text("utf-8")
    for picture in re.findall(r'(?:src|srcset)="([^"]+)"', text):
        assert (document.parent / picture).exists(), picture
    for target, _, heading in re.findall(r"\]\(([^)#]+)(#([^)]+))?\)", text):
        assert "://" in target or (document.parent / target).exists(), target
        if heading:
            assert heading in anchors(document.parent / target)


def anchors(document: Path) -> set[str]:
    """The words behind # that lead to its headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


def test_readme_fits_on_two_screens():
    """For who has never seen it; what is longer is behind a link."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 100
