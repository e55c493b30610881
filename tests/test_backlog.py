"""Readings that no broker took: the file, what goes into it and out again, and what becomes of a bad disk."""

import json
import math
import os
import random
import shutil
import sqlite3
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from goodwe.loop import NEVER
from goodwe.outputs.mqtt import store as store_module
from goodwe.outputs.mqtt.backlog import MOST_JOBS, MOST_UNDER_WAY, PATIENCE, Backlog
from goodwe.outputs.mqtt.store import TRIM_EVERY, Store

SERIAL, OTHER = "1006KDTU13500023", "53600DSN201W0051"
DAY = 86400.0


# the file


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "deep" / "backlog.db")


def store(path, *, largest=10_000_000, oldest=30 * DAY):
    return Store(path, largest=largest, oldest=oldest)


def meddle(path, statement):
    """Somebody else does this to the file."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def test_what_is_added_comes_out_in_order_byte_for_byte(path):
    kept = store(path)
    texts = [f'{{\n    "n": {n}\n}}' for n in range(50)]
    numbers = [kept.add(SERIAL, 1.7e9 + n, text) for n, text in enumerate(texts)]
    assert numbers == sorted(numbers)
    assert [entry.data for entry in kept.next(100, [])] == texts
    assert [entry.number for entry in kept.next(2, numbers[:3])] == numbers[3:5]
    kept.delete(numbers[:49])
    kept.close()
    (last,) = store(path).next(100, [])
    assert last == (numbers[49], SERIAL, texts[49])


def test_it_survives_a_process_that_is_killed(path):
    child = os.fork()
    if not child:
        store(path).add(SERIAL, 1.7e9, "one")
        os._exit(0)  # without closing anything, as a kill -9 leaves it
    os.waitpid(child, 0)
    assert [entry.data for entry in store(path).next(10, [])] == ["one"]


def test_file_that_is_deleted_meanwhile_begins_anew_where_it_was(path, caplog):
    kept = store(path)
    before = kept.add(SERIAL, 1.7e9, "gone with it")
    shutil.rmtree(os.path.dirname(path))
    after = [kept.add(SERIAL, 1.7e9 + n, f"{n}") for n in range(3)]
    kept.close()
    assert caplog.text.count("is not there any more; beginning anew") == 1
    assert min(after) > before, "no number is given twice"
    assert [entry.data for entry in store(path).next(10, [])] == ["0", "1", "2"]


def test_numbers_are_never_given_twice(path):
    kept = store(path)
    first = kept.add(SERIAL, 1.7e9, "one")
    kept.delete([first])
    assert kept.add(SERIAL, 1.7e9, "two") > first


def test_too_old_goes(path):
    kept = store(path, oldest=DAY)
    for hours in (0, 10, 30):
        kept.add(SERIAL, 1.7e9 + hours * 3600, f"{hours}")
    assert kept.trim(1.7e9 + 30 * 3600) == 1
    assert [entry.data for entry in kept.next(10, [])] == ["10", "30"]


def test_reading_from_before_the_clock_was_set_has_no_age(path):
    kept = store(path, oldest=DAY)
    kept.add(SERIAL, 3600.0, "in 1970, it seems")
    assert kept.trim(1.7e9) == 0


@pytest.mark.parametrize("taken", [-1e300, -1.0, 2.0**31, 1e300, math.inf, -math.inf, math.nan])
def test_absurd_clock_costs_no_reading_and_no_file(path, taken):
    kept = store(path)
    kept.add(SERIAL, 1.7e9, "one")
    kept.add(SERIAL, taken, "two")
    kept.trim(1.7e9)
    assert [entry.data for entry in kept.next(10, [])] == ["one", "two"]
    assert not os.path.exists(f"{path}.damaged")


def test_too_much_goes_the_oldest_first_and_the_disk_gets_it_back(path):
    kept = store(path, largest=300_000)
    noise = random.Random(1)
    for n in range(2000):
        kept.add(SERIAL, 1.7e9 + n, f"{n} {noise.randbytes(200).hex()}")
    dropped = kept.trim(1.7e9)
    assert dropped > 500
    (oldest,) = kept.next(1, [])
    assert oldest.data.startswith(f"{dropped} ")
    assert kept.trim(1.7e9) == 0, "there is room now"
    kept.delete([entry.number for entry in kept.next(2000, [])])
    kept.close()
    assert os.path.getsize(path) < 100_000


@pytest.mark.parametrize("content", [b"rubbish" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_damaged_file_is_set_aside_and_said(path, content, caplog):
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(content)
    kept = store(path)
    assert kept.add(SERIAL, 1.7e9, "one")
    with open(f"{path}.damaged", "rb") as file:
        assert file.read() == content
    assert sum("is damaged" in message for message in caplog.messages) == 1


def test_file_of_another_version_is_set_aside(path, caplog):
    os.makedirs(os.path.dirname(path))
    meddle(path, "PRAGMA user_version = 7")
    assert store(path).count() == 0
    assert "of version 7" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        "data = CAST(X'00' || substr(data, 2) AS BLOB)",
        "data = X'78'",
        "serial = CAST(X'FF41' AS TEXT)",
        "serial = 'a/b'",
        "serial = '1007KDTU13500023'",  # one flipped bit: the topic of another inverter
        "serial = '1006kDTU13500023'",
        "serial = '1006KDTU1350002'",
    ],
)
def test_damaged_reading_is_dropped_and_said_and_the_others_come_out(path, damage, caplog):
    kept = store(path)
    texts = [json.dumps({"n": n, "serial": SERIAL}) for n in range(5)]
    for n, text in enumerate(texts):
        kept.add(SERIAL, 1.7e9 + n, text)
    meddle(path, f"UPDATE readings SET {damage} WHERE number <= 2")
    assert [entry.data for entry in kept.next(2, [])] == texts[2:4]
    assert kept.count() == 3
    assert sum("2 readings are damaged, dropped" in message for message in caplog.messages) == 1


def test_file_that_is_damaged_later_is_set_aside_and_no_number_given_twice(path, caplog):
    kept = store(path)
    numbers = [kept.add(SERIAL, 1.7e9 + n, random.Random(n).randbytes(500).hex()) for n in range(200)]
    kept.close()
    with open(path, "r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (os.path.getsize(path) - 8192))
    kept = store(path)
    kept._highest = numbers[-1]  # as in the process that has given them
    for _ in range(20):
        kept.next(50, [])
    assert kept.add(SERIAL, 1.7e9, "later") > numbers[-1]
    assert [entry.data for entry in kept.next(500, [])][-1] == "later"
    assert os.path.exists(f"{path}.damaged")
    assert sum("is damaged" in message for message in caplog.messages) == 1


def message(n: int) -> str:
    return json.dumps({"n": n, "serial": SERIAL})


@pytest.fixture
def patient():
    """In memory where there is such a folder: a disk that is waited for makes this minutes."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as folder:
        yield Patient(f"{folder}/backlog.db")


class Patient:
    """The bytes of a file with 40 readings, to be damaged and then used as the program uses it."""

    def __init__(self, path):
        self._path = Path(path)
        kept = store(path)
        for n in range(40):
            kept.add(SERIAL, 1.7e9 + n, message(n))
        kept.close()
        self.whole = self._path.read_bytes()

    def survives(self, damaged: bytes) -> None:
        """Nothing is sent that was not kept, and nothing is refused: not even by the next program."""
        for left_over in self._path.parent.iterdir():
            left_over.unlink()
        self._path.write_bytes(damaged)
        sent = []
        for _ in range(3):  # perhaps the second finds the damage, and begins anew
            kept = store(str(self._path))
            kept.add(SERIAL, 1.7e9, message(99))
            sent = kept.next(100, [])
            kept.trim(1.7e9)
            kept.close()
            assert {(entry.serial, entry.data) for entry in sent} <= ALL_OF_IT
        assert [entry.data for entry in sent][-1] == message(99)


ALL_OF_IT = {(SERIAL, message(n)) for n in (*range(40), 99)}


def test_no_flipped_bit_keeps_a_reading_out_or_sends_it_elsewhere(patient):
    chance = random.Random(1)
    used = [at for at in range(len(patient.whole)) if any(patient.whole[max(0, at - 8) : at + 8])]
    for at in chance.sample(used, 500):
        flipped = bytearray(patient.whole)
        flipped[at] ^= 1 << chance.randrange(8)
        patient.survives(flipped)


def test_no_byte_of_the_header_keeps_a_reading_out(patient):
    """Byte 18 = 3 was a readonly database, byte 47 = 5 an unsupported file format, at each start again."""
    for at in range(100):
        for value in {3, 5, 0xFF, patient.whole[at] ^ 1} - {patient.whole[at]}:
            patient.survives(patient.whole[:at] + bytes([value]) + patient.whole[at + 1 :])


def test_no_lost_end_and_no_rubbish_keeps_a_reading_out(patient):
    whole, page = patient.whole, 4096
    for length in (0, 1, 15, 16, 99, 100, 101, 512, page - 1, page, page + 1, 2 * page, len(whole) - 1):
        patient.survives(whole[:length])
    chance = random.Random(2)
    for rubbish in (b"\0", b"\xff", b"A", b"\x7f"):
        for length in (8, 100, page):  # 100 of FF: a row that promises more than there is memory
            for at in (*range(0, len(whole), page), *chance.sample(range(len(whole)), 8)):
                patient.survives(whole[:at] + rubbish * length + whole[at + length :])


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"rubbish" * 5000])
def test_no_left_over_of_another_file_keeps_a_reading_out(path, ending, content):
    kept = store(path)
    kept.add(SERIAL, 1.7e9, "one")
    kept.close()
    Path(path + ending).write_bytes(content)
    again = store(path)
    again.add(SERIAL, 1.7e9, "two")
    assert [entry.data for entry in again.next(10, [])] == ["one", "two"]


def test_file_of_a_later_sqlite_is_set_aside_and_one_that_may_not_be_written_stays(path, monkeypatch):
    kept = store(path)
    kept.add(SERIAL, 1.7e9, "one")
    kept.close()
    check = store_module._check_columns

    def read_only(connection):
        check(connection)
        connection.execute("PRAGMA query_only = ON")  # as from a disk that may not be written

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_check_columns", read_only)
        kept = store(path)
        for _ in range(2):
            with pytest.raises(
                sqlite3.OperationalError, match=rf"readonly database: {path} must be a file, and"
            ):
                kept.add(SERIAL, 1.7e9, "two")
    kept.close()
    assert store(path).count() == 1
    assert not os.path.exists(f"{path}.damaged")


def test_full_disk_is_not_damage(path, monkeypatch):
    kept = store(path)
    kept.add(SERIAL, 1.7e9, "one")
    kept.close()
    check = store_module._check_columns

    def full(connection):
        check(connection)
        connection.execute("PRAGMA max_page_count = 1")

    monkeypatch.setattr(store_module, "_check_columns", full)
    kept = store(path)
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        kept.add(SERIAL, 1.7e9, random.Random(1).randbytes(9000).hex())
    assert kept.count() == 1
    assert not os.path.exists(f"{path}.damaged")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE sqlite_sequence SET seq = 9223372036854775807",
        "UPDATE sqlite_sequence SET seq = 'x'",
        "UPDATE readings SET number = 9223372036854775807",
        "CREATE TRIGGER broken BEFORE INSERT ON readings BEGIN SELECT no_such_function(); END",
        "CREATE UNIQUE INDEX strange ON readings (serial)",
    ],
)
def test_file_that_would_take_no_reading_any_more_is_set_aside(path, damage):
    kept = store(path)
    kept.add(SERIAL, 1.7e9, "one")
    kept.close()
    meddle(path, damage)
    kept = store(path)
    kept.add(SERIAL, 1.7e9, "two")
    assert [entry.data for entry in kept.next(10, [])] == ["two"]
    assert os.path.exists(f"{path}.damaged")


@pytest.mark.parametrize("number", [2**62 + 1, 2**63 - 1])
def test_number_that_cannot_be_is_not_carried_into_the_next_file(path, number):
    kept = store(path)
    kept.add(SERIAL, 1.7e9, "one")
    meddle(path, f"UPDATE readings SET number = {number}")  # while the program has it open
    assert kept.next(10, []) == []
    assert kept.add(SERIAL, 1.7e9, "two") < 10


def test_reading_that_cannot_be_deleted_is_not_sent_for_ever(path):
    kept = store(path)
    first = kept.add(SERIAL, 1.7e9, "one")
    meddle(path, "CREATE TRIGGER keep BEFORE DELETE ON readings BEGIN SELECT RAISE(IGNORE); END")
    assert [entry.number for entry in kept.next(10, [])] == [first]
    kept.delete([first])
    assert kept.next(10, []) == []
    assert os.path.exists(f"{path}.damaged")
    assert kept.add(SERIAL, 1.7e9, "two") > first


def test_thousands_of_damaged_readings_are_dropped(path):
    kept = store(path)
    for n in range(3000):
        kept.add(SERIAL, 1.7e9 + n, str(n))
    meddle(path, "UPDATE readings SET data = X'00' WHERE number < 3000")
    assert [entry.data for entry in kept.next(1, [])] == ["2999"]


def test_table_that_is_not_ours_any_more_is_set_aside(path):
    kept = store(path)
    kept.add(SERIAL, 1.7e9, "one")
    kept.close()
    meddle(path, "ALTER TABLE readings RENAME COLUMN serial TO sirial")
    assert store(path).count() == 0
    assert os.path.exists(f"{path}.damaged")


def test_file_that_is_locked_is_not_damaged(path, monkeypatch):
    kept = store(path)
    kept.add(SERIAL, 1.7e9, "one")
    kept.close()
    meddle(path, "PRAGMA journal_mode = DELETE")
    check = store_module._check_columns

    def locked_now(connection):
        other = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = DELETE")
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        try:
            check(connection)
        finally:
            other.close()

    monkeypatch.setattr(store_module, "_check_columns", locked_now)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        kept.count()
    assert not os.path.exists(f"{path}.damaged")


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=r"(exists|directory): .*backlog.db must be a file, and it and its folder"
    ):
        store(str(tmp_path / "file" / "backlog.db")).add(SERIAL, 1.7e9, "one")
    with pytest.raises(sqlite3.OperationalError, match=f"{tmp_path} must be a file"):
        store(str(tmp_path)).add(SERIAL, 1.7e9, "one")


# what goes in and out


class Slowly:
    """A worker that does a job when the test says so, and tells in order."""

    def __init__(self):
        self.jobs = []
        self.finished = False

    def do(self, call, then):
        self.jobs.append((call, then))

    def finish(self):
        self.finished = True

    def work(self, count=None):
        while self.jobs and count != 0:
            call, then = self.jobs.pop(0)
            count = None if count is None else count - 1
            try:
                result = call()
            except (sqlite3.Error, OSError) as error:
                then(lambda error=error: raise_(error))
            else:
                then(lambda result=result: result)


def raise_(error):
    raise error


class House:
    """A backlog, a broker that the test is, and a clock that goes when it is told to."""

    def __init__(self, path, *, rate=20.0, kept=None):
        self.now = 100.0
        self.linked = False
        self.sent = []
        """(text, what to tell) of those that wait for their acknowledgement."""
        self.arrived = []
        self.worker = Slowly()
        self.store = kept or store(path)
        self.backlog = Backlog(
            self.store,
            rate=rate,
            send=self.send,
            loop=SimpleNamespace(clock=lambda: self.now, post=None),
            wall_clock=lambda: 1.7e9 + self.now,
            worker=self.worker,
        )

    def send(self, kept, done):
        if self.linked:
            self.sent.append((kept.data, done))
        return self.linked

    def acknowledge(self, count=None):
        taken, self.sent = self.sent[:count], self.sent[len(self.sent[:count]) :]
        for text, done in taken:
            self.arrived.append(text)
            done(True)

    def lose(self):
        self.linked = False
        lost, self.sent = self.sent, []
        for _, done in lost:
            done(False)

    def link(self):
        self.linked = True
        self.backlog.linked()

    def run(self, seconds, *, acknowledge=True):
        end = self.now + seconds
        while True:
            self.worker.work()
            if acknowledge:
                self.acknowledge()
            self.worker.work()
            if self.backlog.deadline > end:
                break
            self.now = max(self.now, self.backlog.deadline)
            self.backlog.tick(self.now)
        self.now = end

    def keep(self, serial, taken, text):
        """There is no link, and then another reading comes: this one is one of many in the file."""
        live = self.backlog.take(serial, taken, text)
        self.backlog.keep(live)
        self.backlog.told(live, False)

    def live(self, text):
        live = self.backlog.take(SERIAL, 1.7e9 + self.now, text)
        return lambda acknowledged: self.backlog.told(live, acknowledged)


@pytest.fixture
def house(path):
    return House(path)


def test_outage_arrives_once_in_order_and_the_file_is_empty(house):
    for n in range(100):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    house.run(5.0)
    assert house.arrived == [], "there is no link"
    house.link()
    house.run(60.0)
    assert house.arrived == [str(n) for n in range(100)]
    assert house.store.count() == 0
    assert house.backlog.deadline == NEVER, "nothing is due any more"


def status(house) -> dict:
    """Without what is nothing."""
    return {key: value for key, value in house.backlog.status(house.now).items() if value or key == "kept"}


def test_status_says_how_many_wait_and_what_became_of_the_others(house, path):
    assert status(house) == {"state": "empty", "kept": None}
    for n in range(30):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    house.run(1.0)
    assert status(house) == {"state": "waiting", "kept": 30, "added": 30}
    house.link()
    house.run(0.1, acknowledge=False)
    assert status(house) == {"state": "sending", "kept": 30, "added": 30, "under_way": MOST_UNDER_WAY}
    house.run(60.0)
    assert status(house) == {"state": "empty", "kept": 0, "added": 30, "sent_again": 30}
    house.live("live")
    assert status(house)["unacknowledged"] == 1
    house.backlog.stop()
    assert status(house)["state"] == "stopping"
    house.worker.work()
    assert status(house)["state"] == "closed"
    assert store(path).next(10, [])[0].data == "live"


def test_status_names_the_disks_trouble_until_it_is_over(path, caplog):
    house = House(path, kept=Full(path))
    house.keep(SERIAL, 1.7e9, "one")
    house.run(1.0)
    assert status(house)["state"] == "in trouble"
    assert status(house)["troubles"]["add"] == "database or disk is full"
    assert status(house)["lost"] == 1
    assert "A reading could not be kept in the backlog; later ones are counted" in caplog.messages
    house.store.full = False
    for n in range(TRIM_EVERY + 1):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    house.run(1.0)
    assert status(house)["state"] == "waiting"
    assert json.dumps(house.backlog.status(0.0))


def test_what_is_kept_is_known_without_counting(path):
    kept = store(path, oldest=DAY)
    assert kept.kept is None
    numbers = [kept.add(SERIAL, 1.7e9 + hours * 3600, str(hours)) for hours in range(30)]
    assert kept.kept == 30
    kept.delete([*numbers[20:25], 10**6])
    assert kept.kept == 25
    kept.trim(1.7e9 + 34 * 3600)
    assert kept.kept == kept.count() == 15
    meddle(path, "UPDATE readings SET data = X'78' WHERE number = 11")
    kept.next(1, [])
    assert kept.kept == kept.count() == 14
    kept.close()
    again = store(path)
    again.next(1, [])
    assert again.kept == 14


def test_rate_is_kept(path):
    house = House(path, rate=5.0)
    for n in range(100):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    house.link()
    house.run(10.0)
    assert 45 <= len(house.arrived) <= 60


def test_few_are_under_way_so_that_live_ones_pass(house):
    for n in range(100):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    house.link()
    house.run(60.0, acknowledge=False)
    assert len(house.sent) == MOST_UNDER_WAY
    house.acknowledge()
    house.run(60.0)
    assert house.arrived == [str(n) for n in range(100)], "room goes to the next"
    assert house.store.count() == 0


def test_what_was_under_way_when_the_link_broke_comes_again_first(house):
    for n in range(30):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    house.link()
    house.run(0.1, acknowledge=False)
    house.acknowledge(3)
    house.lose()
    house.run(10.0)
    house.link()
    house.run(60.0)
    assert house.arrived == [str(n) for n in range(30)]


def test_reading_that_waits_for_a_connection_is_in_the_file_at_once_and_only_once(house):
    live = house.backlog.take(SERIAL, 1.7e9, "one")
    house.backlog.keep(live)
    house.worker.work()
    assert house.store.count() == 1, "a power cut now loses nothing"
    house.backlog.keep(live)
    house.backlog.stop()
    house.worker.work()
    assert house.store.count() == 1


@pytest.mark.parametrize(("acknowledged", "lost"), [(True, 0), (False, 1)])
def test_reading_whose_fate_is_known_before_the_disk_refuses_it_is_forgotten(path, acknowledged, lost):
    house = House(path, kept=Full(path))
    done = house.live("one")
    house.now += PATIENCE
    house.backlog.tick(house.now)
    done(acknowledged)
    house.worker.work()
    assert house.backlog.status(house.now)["unacknowledged"] == 0
    assert house.backlog.status(house.now)["lost"] == lost


def test_live_reading_that_is_acknowledged_never_touches_the_disk(house):
    house.live("one")(True)
    assert house.worker.jobs == []
    assert house.backlog.deadline == NEVER


def test_live_reading_without_an_acknowledgement_is_kept_after_two_seconds(house):
    done = house.live("one")
    assert house.backlog.deadline == house.now + PATIENCE
    house.run(PATIENCE)
    assert house.store.count() == 1
    house.link()
    house.run(5.0)
    assert house.arrived == [], "it is still under way"
    done(True)
    house.run(5.0)
    assert (house.arrived, house.store.count()) == ([], 0)


def test_live_reading_of_a_link_that_breaks_comes_out_of_the_file(house):
    early, late = house.live("one"), house.live("two")
    house.run(PATIENCE)
    late_again = house.live("three")
    for done in (early, late, late_again):
        done(False)
    house.run(1.0)
    house.link()
    house.run(5.0)
    assert house.arrived == ["one", "two", "three"]


@pytest.mark.parametrize("acknowledged", [True, False])
def test_answer_that_comes_before_the_disk_has_done_its_part(house, acknowledged):
    house.linked = True
    done = house.live("one")
    house.now += PATIENCE
    house.backlog.tick(house.now)
    done(acknowledged)
    house.run(5.0)
    assert house.arrived == ([] if acknowledged else ["one"])
    assert house.store.count() == 0


def test_file_that_is_read_while_a_live_reading_goes_into_it_sends_it_not_twice(house):
    house.linked = True
    house.keep(SERIAL, 1.7e9, "old")
    house.live("live")
    house.now += PATIENCE
    house.backlog.linked()
    house.backlog.tick(house.now)
    house.run(5.0)
    assert house.arrived == ["old"]


def test_restart_goes_on_where_it_was(path):
    house = House(path)
    for n in range(20):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    house.link()
    house.run(0.1, acknowledge=False)
    house.acknowledge(4)
    house.backlog.tick(house.now + 1)
    house.worker.work()
    again = House(path)
    again.link()
    again.run(60.0)
    assert again.arrived == [str(n) for n in range(4, 20)]


def test_stop_keeps_what_was_not_acknowledged_and_closes_the_file(house, caplog):
    house.live("one")
    house.backlog.stop()
    assert not house.backlog.closed
    house.worker.work()
    assert house.backlog.closed
    assert house.worker.finished
    assert caplog.messages == []
    assert [entry.data for entry in house.store.next(10, [])] == ["one"]


def test_full_file_drops_the_oldest_and_says_so(path, caplog):
    house = House(path, kept=store(path, largest=50_000))
    noise = random.Random(1)
    for n in range(3 * TRIM_EVERY + 1):
        house.keep(SERIAL, 1.7e9 + n, noise.randbytes(100).hex())
        house.worker.work()
    assert sum("The backlog is full" in message for message in caplog.messages) == 1
    assert house.store.count() < 1000


class Full:
    """A disk that takes nothing until it does."""

    def __init__(self, path, refused=("add", "next", "delete", "trim", "close")):
        self.full = True
        self._store = store(path)
        self._refused = refused

    @property
    def kept(self):
        return self._store.kept

    def __getattr__(self, name):
        def method(*arguments):
            if self.full and name in self._refused:
                raise sqlite3.OperationalError("database or disk is full")
            return getattr(self._store, name)(*arguments)

        return method


def test_full_disk_is_said_once_and_what_comes_later_is_kept(path, caplog):
    house = House(path, kept=Full(path))
    for n in range(10):
        house.keep(SERIAL, 1.7e9 + n, str(n))
        house.worker.work()
    done = house.live("live")
    done(True)
    house.link()
    house.run(5.0)
    assert sum("database or disk is full; live values go on" in message for message in caplog.messages) == 1
    assert sum("could not be kept" in message for message in caplog.messages) == 1
    house.store.full = False
    house.keep(SERIAL, 1.7e9, "later")
    house.link()
    house.run(5.0)
    assert house.arrived == ["later"]
    house.backlog.stop()
    house.worker.work()
    assert any("10 readings could not be kept" in message for message in caplog.messages)


def test_what_cannot_be_deleted_is_not_sent_again(path, caplog):
    house = House(path, kept=Full(path, ["delete", "add"]))
    house.store.full = False
    for n in range(30):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    house.worker.work()
    house.store.full = True
    house.link()
    house.run(3600.0)
    assert len(house.arrived) <= MOST_UNDER_WAY
    assert sum("disk is full" in message for message in caplog.messages) == 1
    house.store.full = False
    house.run(120.0)
    assert house.arrived == [str(n) for n in range(30)]
    assert house.store.count() == 0


def test_file_that_could_not_be_read_is_read_later(path):
    house = House(path, kept=Full(path, ["next"]))
    house.keep(SERIAL, 1.7e9, "one")
    house.link()
    house.run(10.0)
    house.store.full = False
    house.run(120.0)
    assert house.arrived == ["one"]


@pytest.mark.parametrize("acknowledged", [True, False])
def test_live_readings_that_cannot_be_kept_are_not_held_for_ever(path, acknowledged):
    house = House(path, kept=Full(path))
    waiting = [house.live(str(n)) for n in range(50)]
    house.run(PATIENCE)
    for done in waiting[:25]:
        done(acknowledged)
    house.run(3600.0)
    for done in waiting[25:]:
        done(acknowledged)
    house.run(10.0)
    assert house.backlog._live == []
    assert house.backlog._lost == (0 if acknowledged else 50)


def test_link_that_breaks_while_the_disk_hangs_is_no_end(house):
    waiting = [house.live(str(n)) for n in range(5)]
    for n in range(MOST_JOBS):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    lost = house.backlog._lost
    for done in waiting:
        done(False)
    assert house.backlog._live == []
    assert house.backlog._lost == lost + 5


def test_what_cannot_be_kept_at_the_stop_is_said(path, caplog):
    house = House(path, kept=Full(path, ["add"]))
    house.live("one")
    house.live("two")
    house.backlog.stop()
    house.worker.work()
    assert "2 readings could not be kept in the backlog" in caplog.messages


def test_live_reading_is_kept_as_soon_as_the_disk_takes_it(path):
    house = House(path, kept=Full(path))
    house.live("one")
    house.run(PATIENCE)
    house.store.full = False
    house.run(120.0)
    assert house.store.count() == 1


def test_reading_that_is_acknowledged_while_the_file_is_read_is_not_sent_again(house):
    done = house.live("one")
    house.now += PATIENCE
    house.backlog.tick(house.now)
    house.linked = True
    house.backlog.linked()
    house.backlog.tick(house.now)
    done(True)
    house.worker.work(1)
    house.backlog.linked()
    house.backlog.tick(house.now)
    house.run(5.0)
    assert (house.arrived, house.sent, house.store.count()) == ([], [], 0)


def test_disk_that_hangs_does_not_fill_the_memory(house, caplog):
    for n in range(3 * MOST_JOBS):
        house.keep(SERIAL, 1.7e9 + n, str(n))
    assert len(house.worker.jobs) <= MOST_JOBS + 10
    assert "could not be kept" in caplog.text
