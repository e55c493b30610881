"""The page: this moment, the history, the program's health, for any browser in the house."""

from typing import TYPE_CHECKING

from .. import Context
from .settings import WebSettings

if TYPE_CHECKING:
    from .output import WebOutput

SECTIONS = (WebSettings,)
NEEDS = ("waitress",)
NEEDS_IF = {"web.metrics": "prometheus_client"}
READS = ("history", "mqtt.language", "inverter.pollinterval")


def make(settings: WebSettings, context: Context) -> "WebOutput":
    """The output of this section; what it needs is imported here."""
    from .output import WebOutput

    return WebOutput(settings, context)
