"""Who an inverter is: asked once, and never again where asking did harm (PROTOCOL 2.5, 5.5 and 5.6).

One of two inverters of the predecessor's owner became unstable by these questions. So they wait until the
link is steady, and an inverter that goes away on them is left in peace, over restarts of the program too.
"""

from typing import NamedTuple

from ..errors import FieldError
from ..events import Info
from . import fields
from .fields import Values

QUESTIONS = ("query_id_info", "query_setting_info")
STEADY_AFTER = 3
"""Good readings after which the questions are put."""
HARM_WITHIN = 30.0
"""Seconds after a question in which a lost link is taken for its doing."""
MOST_TRIES = 3
"""So often each question is put in one run of the program; each time it is tried three times on the wire."""


class Identity(NamedTuple):
    """What is known of an inverter besides its readings, and kept over restarts."""

    id_info: Values | None = None
    """None until it was told."""
    setting_info: Values | None = None
    shy: bool = False
    """Whether it went away when it was asked."""

    def infos(self, serial: str) -> list[Info]:
        """As events, under their published names."""
        known = {"idInfo": self.id_info, "settingInfo": self.setting_info}
        return [Info(serial, kind, values) for kind, values in known.items() if values]


class Interview:
    """Decides what one inverter is asked, and when. Times are seconds on a clock that only grows."""

    def __init__(self, serial: str, identity: Identity) -> None:
        """`identity` is what is known from earlier; it is kept up to date."""
        self.identity = identity
        self.serial = serial
        self._readings = 0
        self._open = dict.fromkeys(QUESTIONS, MOST_TRIES)
        """Question to how often it may still be put."""
        self._under_way: set[str] = set()
        self._harm_until = 0.0

    def reading(self) -> list[str]:
        """A good reading came; the questions to put now."""
        self._readings += 1
        if self.identity.shy or self._readings != STEADY_AFTER:
            return []
        questions = [question for question, tries in self._open.items() if tries]
        for question in questions:
            self._open[question] -= 1
        self._under_way.update(questions)
        return questions

    def answer(self, question: str, data: bytes, now: float) -> Info:
        """It has told. Raises FieldError for what cannot be an answer."""
        self._done(question, now)
        if question == "query_setting_info":
            settings = fields.decode_setting(data)
            self.identity = self.identity._replace(setting_info=settings)
            return Info(self.serial, "settingInfo", settings)
        values = fields.decode_id(data)
        if values.pop("serial") not in (self.serial, ""):
            raise FieldError("ID info of another inverter", data.hex())
        values["safetyCountryText"] = fields.safety_country(values["safetyCountry"])
        self.identity = self.identity._replace(id_info=values)
        return Info(self.serial, "idInfo", values)

    def unanswered(self, question: str, now: float) -> None:
        """It does not tell."""
        self._done(question, now)

    def lost(self, now: float) -> bool:
        """It went away; whether that shows that it must not be asked."""
        harmed = bool(self._under_way) or now < self._harm_until
        self._readings = 0
        self._under_way.clear()
        self._harm_until = 0.0
        news = harmed and not self.identity.shy
        if news:
            self.identity = self.identity._replace(shy=True)
        return news

    def _done(self, question: str, now: float) -> None:
        self._under_way.discard(question)
        self._open[question] = 0
        self._harm_until = now + HARM_WITHIN
