"""Who an inverter is: asked once, and never again where asking did harm (PROTOCOL 2.5, 5.5 and 5.6).

One of two inverters of an owner became unstable by these questions. So they wait until the link is steady,
and an inverter that goes away on them time after time is left in peace, over restarts of the program too.
"""

from typing import Any, NamedTuple

from ..errors import FieldError
from ..events import Info
from . import fields
from .fields import Values

QUESTIONS = ("query_id_info", "query_setting_info")
STEADY_AFTER = 3
"""Good readings after which the questions are put."""
HARM_WITHIN = 30.0
"""Seconds after a question in which a lost link may be its doing."""
HARMFUL_LOSSES = 3
"""Losses in a row that are taken for the doing of the questions: one or two are chance."""
LEAST_FEEDING = 100.0
"""Watts; an inverter that gave less when it was last heard may have gone for want of light."""
MOST_TRIES = 3
"""So often each question is put in one run of the program; each time it is tried three times on the wire."""


class Identity(NamedTuple):
    """Facts known of an inverter besides its readings, and kept over restarts."""

    id_info: Values | None = None
    """None until it was told."""
    setting_info: Values | None = None
    shy: bool = False
    """True when it is not to be asked any more; the word of the state file."""
    losses: int = 0
    """How many times in a row it went away right after it was asked."""

    @classmethod
    def recalled(cls, facts: dict[str, Any]) -> "Identity":
        """The identity of which `facts()` gave these. Raises TypeError for anything else.

        Before losses were counted, one was enough to make an inverter shy: such a one is asked once more.
        """
        identity = cls(**facts)
        if identity.shy is True and "losses" not in facts:
            return identity._replace(shy=False, losses=HARMFUL_LOSSES - 1)
        return identity

    def facts(self) -> dict[str, Any]:
        """Plain values for the state file."""
        facts = self._asdict()
        return facts if self.shy or self.losses else {key: facts[key] for key in facts if key != "losses"}

    def infos(self, serial: str) -> list[Info]:
        """As events, under their published names."""
        known = {"idInfo": self.id_info, "settingInfo": self.setting_info}
        return [Info(serial, kind, values) for kind, values in known.items() if values]


class IdentityQuestions:
    """Decides what one inverter is asked, and when. Times are seconds on a clock that only grows."""

    def __init__(self, serial: str, identity: Identity) -> None:
        """`serial` names the inverter, `identity` is known from earlier; it is kept up to date."""
        self.identity = identity
        self.serial = serial
        self._readings = 0
        self._open = dict.fromkeys(QUESTIONS, MOST_TRIES)
        """Question to how often it may still be put."""
        self._under_way: set[str] = set()
        self._harm_until: float | None = None
        """None before it was asked, and when that was too long ago to matter."""
        self._power = 0.0

    def reading(self, power: float, now: float) -> list[str]:
        """The questions to put now that a good reading has come; `power` is what it feeds, in watts."""
        self._power = power
        self._readings += 1
        if self._harm_until is not None and now >= self._harm_until and not self._under_way:
            self._harm_until = None  # asked and still here: what went before was chance
            self.identity = self.identity._replace(losses=0)
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
        if values.pop("serial") not in (self.serial.strip(), ""):  # texts come without their padding
            raise FieldError("ID info of another inverter", data.hex())
        values["safetyCountryText"] = fields.safety_country(values["safetyCountry"])
        self.identity = self.identity._replace(id_info=values)
        return Info(self.serial, "idInfo", values)

    def not_put(self, question: str) -> None:
        """It could not be asked this."""
        self._under_way.discard(question)

    def unanswered(self, question: str, now: float) -> None:
        """It does not tell."""
        self._done(question, now)

    def lost(self, now: float, *, by_itself: bool) -> bool:
        """It went away; True when that makes it one that is not asked any more.

        `by_itself` is False when a cable was pulled, or when we let it go.
        """
        asked = bool(self._under_way) or (self._harm_until is not None and now < self._harm_until)
        self._readings = 0
        self._under_way.clear()
        self._harm_until = None
        if self.identity.shy or not (asked and by_itself and self._power >= LEAST_FEEDING):
            return False
        losses = self.identity.losses + 1
        self.identity = self.identity._replace(losses=losses, shy=losses >= HARMFUL_LOSSES)
        return self.identity.shy

    def _done(self, question: str, now: float) -> None:
        self._under_way.discard(question)
        self._open[question] = 0
        self._harm_until = now + HARM_WITHIN
