"""Who an inverter is: when it is asked, when it is left in peace, what of it is kept and published."""

import json

import pytest

from goodwe.errors import FieldError
from goodwe.events import Answer, Info, Offline, Resting, Unanswered
from goodwe.protocol import fields
from goodwe.protocol.bus import REGISTERED_AGAIN
from goodwe.protocol.identity import HARM_WITHIN, HARMFUL_LOSSES, QUESTIONS, Identity, IdentityQuestions
from goodwe.protocol.simulator import SETTINGS
from goodwe.readings.plausibility import Plausibility

from .test_ledger import SERIAL, Books

ID = {
    "firmwareVersion": "1010C",
    "modelName": "GW1500-XS",
    "manufacturer": "GoodWe",
    "serial": SERIAL,
    "nominalVpv": "3600",
    "internalVersion": "410-04001-08",
    "safetyCountry": 32,
}
ID_DATA = fields.encode_id(ID)
SETTING_DATA = fields.encode_setting(SETTINGS)


def asked(interview: IdentityQuestions, *, power: float = 1500.0, now: float = 0.0) -> list[str]:
    """The questions that are asked in three good readings."""
    return [question for _ in range(3) for question in interview.reading(power, now)]


def asked_and_lost(interview: IdentityQuestions, after: float = 5.0, *, power=1500.0, by_itself=True) -> bool:
    """It is asked, does not answer, and goes away so many seconds later."""
    for question in asked(interview, power=power):
        interview.unanswered(question, 10.0)
    return interview.lost(10.0 + after, by_itself=by_itself)


def test_asked_once_after_the_third_good_reading():
    interview = IdentityQuestions(SERIAL, Identity())
    assert [interview.reading(1500.0, 0.0) for _ in range(4)] == [[], [], list(QUESTIONS), []]
    interview.answer("query_id_info", ID_DATA, 10.0)
    interview.answer("query_setting_info", SETTING_DATA, 11.0)
    assert not interview.lost(100.0, by_itself=True)
    assert asked(interview) == [], "registered anew, it is not asked again"


def test_answers_are_what_is_published():
    interview = IdentityQuestions(SERIAL, Identity())
    asked(interview)
    told = interview.answer("query_id_info", ID_DATA, 10.0)
    expected = {key: value for key, value in ID.items() if key != "serial"}
    assert told == Info(SERIAL, "idInfo", {**expected, "safetyCountryText": "50 Hz default"})
    assert interview.answer("query_setting_info", SETTING_DATA, 11.0) == Info(SERIAL, "settingInfo", SETTINGS)
    assert [info.kind for info in interview.identity.infos(SERIAL)] == ["idInfo", "settingInfo"]


@pytest.mark.parametrize(
    ("question", "data"),
    [
        ("query_id_info", ID_DATA[:63]),
        ("query_setting_info", SETTING_DATA[:11]),
        ("query_id_info", fields.encode_id({**ID, "serial": "15000SIM268W0002"})),
    ],
)
def test_answer_that_cannot_be_is_refused_and_not_asked_for_again(question, data):
    interview = IdentityQuestions(SERIAL, Identity())
    asked(interview)
    with pytest.raises(FieldError):
        interview.answer(question, data, 10.0)
    interview.unanswered(next(other for other in QUESTIONS if other != question), 10.0)
    interview.lost(100.0, by_itself=True)
    assert asked(interview) == []
    assert interview.identity == Identity()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("15000SIM268W00  ", "15000SIM268W00"),
        ("  000SIM268W0001", "000SIM268W0001"),
        ("15000 IM 68 0001", "15000 IM 68 0001"),
        (" 5000 IM 68 000 ", "5000 IM 68 000"),
        ("15000SIM268W00  ", "15000SIM268W00\0\0"),
        (SERIAL, ""),
    ],
)
def test_blanks_around_a_serial_make_no_other_inverter(sent, told):
    interview = IdentityQuestions(fields.decode_serial(sent.encode()), Identity())
    asked(interview)
    info = interview.answer("query_id_info", fields.encode_id({**ID, "serial": told}), 10.0)
    assert (info.serial, info.values["modelName"]) == (sent, "GW1500-XS")


def test_blanks_inside_a_serial_count():
    interview = IdentityQuestions("15000 IM268W0001", Identity())
    with pytest.raises(FieldError, match="another inverter"):
        interview.answer("query_id_info", fields.encode_id({**ID, "serial": "15000IM268W0001"}), 10.0)


def test_inverter_that_does_not_answer_is_not_asked_again():
    interview = IdentityQuestions(SERIAL, Identity())
    assert not asked_and_lost(interview, HARM_WITHIN)
    assert asked(interview) == []
    assert interview.identity == Identity()


@pytest.mark.parametrize("seconds", [0.0, HARM_WITHIN - 0.1])
def test_inverter_that_goes_within_half_a_minute_each_time_is_never_asked_again(seconds):
    """PROTOCOL 2.5: the questions made one of two inverters unstable."""
    identity = Identity()
    for losses in range(1, HARMFUL_LOSSES):
        interview = IdentityQuestions(SERIAL, identity)
        assert not asked_and_lost(interview, seconds), "chance, so far"
        identity = interview.identity
        assert identity == Identity(losses=losses)
    interview = IdentityQuestions(SERIAL, identity)
    assert asked_and_lost(interview, seconds)
    assert interview.identity.shy
    assert not interview.lost(10.0 + seconds, by_itself=True), "said once"
    assert asked(interview) == []
    assert asked(IdentityQuestions(SERIAL, interview.identity)) == [], "over a restart of the program, too"


def test_two_losses_after_the_questions_are_chance_and_the_third_is_not():
    interview, lost = IdentityQuestions(SERIAL, Identity()), []
    for _ in range(3):
        assert asked(interview) == list(QUESTIONS)
        lost.append(interview.lost(1000.0, by_itself=True))
    assert lost == [False, False, True]


def test_inverter_that_goes_each_time_before_it_answers_is_never_asked_again():
    interview = IdentityQuestions(SERIAL, Identity())
    lost = []
    for _ in range(HARMFUL_LOSSES):
        assert asked(interview) == list(QUESTIONS)
        lost.append(interview.lost(1000.0, by_itself=True))
    assert lost == [False] * (HARMFUL_LOSSES - 1) + [True]


@pytest.mark.parametrize(
    "chance",
    [{"by_itself": False}, {"power": 0.0}, {"power": 99.0}, {"power": -300.0}],
    ids=["pulled cable", "night", "last light", "hybrid at night"],
)
def test_cable_that_is_pulled_and_night_that_begins_are_no_harm_however_often(chance):
    identity = Identity()
    for _ in range(10):
        interview = IdentityQuestions(SERIAL, identity)
        assert not asked_and_lost(interview, **chance)
        identity = interview.identity
    assert identity == Identity()


def test_inverter_that_is_asked_and_stays_was_not_harmed_before():
    identity = Identity(losses=HARMFUL_LOSSES - 1)
    interview = IdentityQuestions(SERIAL, identity)
    for question in asked(interview):
        interview.unanswered(question, 10.0)
    interview.reading(1500.0, 10.0 + HARM_WITHIN - 0.1)
    assert interview.identity == identity
    interview.reading(1500.0, 10.0 + HARM_WITHIN)
    assert interview.identity == Identity()


def test_one_that_was_left_in_peace_after_a_single_loss_is_asked_once_more():
    # as it was kept before losses were counted
    old = {"id_info": None, "setting_info": None, "shy": True}
    interview = IdentityQuestions(SERIAL, Identity.recalled(old))
    assert asked_and_lost(interview)
    again = Identity.recalled(interview.identity.facts())
    assert (again, again.shy) == (interview.identity, True)


def test_what_is_kept_of_an_inverter_without_losses_is_what_it_always_was():
    assert Identity().facts() == {"id_info": None, "setting_info": None, "shy": False}


def test_inverter_that_goes_before_it_is_asked_is_asked_the_next_time():
    interview = IdentityQuestions(SERIAL, Identity())
    interview.reading(1500.0, 1.0)
    interview.reading(1500.0, 3.5)
    assert not interview.lost(5.0, by_itself=True)
    assert asked(interview) == list(QUESTIONS)


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        *(("GW1500-XS", 1500), ("GW5048-EM", 5048), ("GW10K-DT", 10_000), ("GW5000S-BP", 5000)),
        *(("", None), ("GW-SIM", None), ("GW12", None), ("XS", None)),
    ],
)
def test_rated_power_by_the_model(name, watts):
    assert fields.rated_power_of_model(name) == watts


def test_model_tells_the_power_where_the_serial_does_not():
    judge = Plausibility("1XXXXSIM268W0001", None)
    judge.learn_model("GW1500-XS")
    assert judge._power == 1500
    judge = Plausibility(SERIAL, None)
    judge.learn_model("GW1500-XS")
    assert judge._power == 5000


# in the books


class Asked(Books):
    """A ledger that may ask."""

    def __init__(self, path="", **options):
        self.questions = []
        super().__init__(path, ask=self.ask, **options)

    def ask(self, serial, question, data=b"", *, urgent=False, answered):
        self.questions.append((serial, question))
        self.answered = answered
        return True

    def answer(self):
        self.answered(Answer(SERIAL, "query_id_info", ID_DATA))
        self.answered(Answer(SERIAL, "query_setting_info", SETTING_DATA))


def test_books_ask_after_the_third_published_reading():
    books = Asked()
    for _ in range(3):
        books.read()
    assert books.questions == [], "the first was held for the second"
    books.read()
    assert books.questions == [(SERIAL, question) for question in QUESTIONS]
    books.take()
    books.answer()
    assert [event.kind for event in books.take()] == ["idInfo", "settingInfo"]


def test_identity_survives_a_restart_and_is_told_before_the_first_values(tmp_path, caplog):
    caplog.set_level("INFO")
    books = Asked(tmp_path / "state.json")
    for _ in range(4):
        books.read()
    books.answer()
    assert any("modelName GW1500-XS" in message for message in caplog.messages)
    assert any("vacMax 264.5" in message for message in caplog.messages)
    books.ledger.close()
    again = Asked(tmp_path / "state.json")
    again.now = books.now + 60
    again.ledger.begin()
    remembered, id_info, setting_info, resting = again.take()
    assert (remembered.serial, remembered.inverter_type) == (SERIAL, 1)
    assert (id_info.values["modelName"], setting_info.values["vacMax"]) == ("GW1500-XS", 264.5)
    assert type(resting) is Resting


def test_shyness_survives_a_restart_and_is_said_once(tmp_path, caplog):
    caplog.set_level("INFO")
    books = Asked(tmp_path / "state.json")
    for n in range(HARMFUL_LOSSES):
        assert len(books.questions) == 2 * n
        for _ in range(4):
            books.read()
        books.ledger.handle(Offline(SERIAL, 11, "no answer"))
        books.ledger.handle(Offline(SERIAL, 11, "no answer"))
    assert sum("never asked again" in message for message in caplog.messages) == 1
    books.ledger.close()
    again = Asked(tmp_path / "state.json")
    again.now = books.now + 60
    for _ in range(5):
        again.read()
    assert again.questions == []


@pytest.mark.parametrize(
    "reason", ["the program ends", REGISTERED_AGAIN, "unplugged", "unplugged (Input/output error)", "silent"]
)
def test_end_of_the_program_and_a_command_and_a_pulled_cable_are_no_harm(reason):
    books = Asked()
    for _ in range(HARMFUL_LOSSES + 1):
        for _ in range(4):
            books.read()
        if reason == "the program ends":
            books.ledger.stop()
        books.ledger.handle(Offline(SERIAL, 11, reason))
    assert books.ledger._inverters[SERIAL].questions.identity == Identity()


def test_one_loss_right_after_the_questions_leaves_no_trace_in_the_file_once_it_stays(tmp_path):
    path = tmp_path / "state.json"
    books = Asked(path)
    for _ in range(4):
        books.read()
    books.answer()
    books.ledger.handle(Offline(SERIAL, 11, "no answer"))
    books.ledger.close()
    kept = json.loads(path.read_text())["inverters"][SERIAL]["identity"]
    assert (kept["shy"], kept["losses"]) == (False, 1)
    books = Asked(path)
    for _ in range(4):
        books.read()
    books.answer()
    for _ in range(20):
        books.read()
    books.ledger.close()
    kept = json.loads(path.read_text())["inverters"][SERIAL]["identity"]
    assert (kept["shy"], "losses" in kept) == (False, False)


def test_state_of_an_inverter_with_a_blank_serial_is_left_out_and_the_others_stay(tmp_path, caplog):
    path = tmp_path / "state.json"
    books = Asked(path)
    for _ in range(4):
        books.read()
    books.ledger.close()
    content = json.loads(path.read_text())
    content["inverters"][" " * 16] = content["inverters"][SERIAL]
    path.write_text(json.dumps(content))
    assert list(Asked(path).ledger._inverters) == [SERIAL]
    assert caplog.messages == []


def test_unanswered_and_odd_answers_are_said_and_harm_nothing(caplog):
    caplog.set_level("INFO")
    books = Asked()
    for _ in range(4):
        books.read()
    books.take()
    books.answered(Unanswered(SERIAL, "query_id_info"))
    books.answered(Answer(SERIAL, "query_setting_info", b"short"))
    assert books.take() == []
    assert any("does not answer query_id_info" in message for message in caplog.messages)
    assert any("setting info too short" in message for message in caplog.messages)


def test_inverter_that_went_before_it_could_be_asked_was_not_harmed():
    books = Asked()
    books.ledger._ask = lambda *question, **how: False
    for _ in range(HARMFUL_LOSSES):
        for _ in range(4):
            books.read()
        books.ledger.handle(Offline(SERIAL, 11, "no answer"))
    assert books.ledger._inverters[SERIAL].questions.identity == Identity()


@pytest.mark.parametrize(
    "silly",
    [
        {"id_info": {"modelName": "x" * 41}},
        {"id_info": {"modelName": "a\u0007"}},
        {"id_info": {"other": 1}},
        {"setting_info": {"vacMax": [1]}},
        {"setting_info": {"vacMax": float("nan")}},
        {"setting_info": 3},
        {"shy": 1},
        {"losses": -1},
        {"losses": HARMFUL_LOSSES + 1},
        {"losses": True},
        {"losses": "1"},
        {"more": 1},
    ],
)
def test_state_with_a_silly_identity_is_damaged(tmp_path, silly, caplog):
    path = tmp_path / "state.json"
    books = Asked(path)
    for _ in range(4):
        books.read()
    books.ledger.close()
    content = json.loads(path.read_text())
    content["inverters"][SERIAL]["identity"] |= silly
    path.write_text(json.dumps(content))
    Asked(path)
    assert any("is damaged" in message for message in caplog.messages)
