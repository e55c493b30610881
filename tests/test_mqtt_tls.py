"""TLS as people have it: authorities made by hand after the usual recipes, files that are renewed, a real mosquitto.

Each case that `connects` was tried with mosquitto_sub as well: it connects there too. The tests do so again.
"""

import io
import os
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from goodwe.config import load
from goodwe.errors import StartError
from goodwe.events import Found
from goodwe.outputs.mqtt import backoff
from goodwe.outputs.mqtt.tls import is_address, names_address, password_for, tls_context, tls_for
from goodwe.tools import discovery, doctor
from goodwe.tools.doctor.checks import Grade, Machine

from .authority import openssl
from .broker import Mosquitto, wait_for
from .mqtt import DATA, SERIAL, reading, serving, settings

NEW = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
BARE = "[req]\ndistinguished_name = name\n[name]\n"
"""Without a section of extensions, as on a machine whose openssl.cnf has been tidied."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Less patience between two attempts."""
    monkeypatch.setattr(backoff, "PERIOD", 0.4)
    monkeypatch.setattr(backoff, "FIRST_PERIOD", 0.4)
    monkeypatch.setattr(backoff, "FIRST_PAUSE", 0.4)


@pytest.fixture(autouse=True)
def as_python_3_13(monkeypatch):
    """Contexts begin as strict as those of newer Pythons, on each Python."""
    usual = ssl.create_default_context

    def strict(*arguments, **named):
        context = usual(*arguments, **named)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)


def authority(folder: Path, name: str = "ca", extensions: str = "") -> None:
    """As in most recipes: openssl req -x509, no key identifiers, no keyUsage, basicConstraints as it comes."""
    (folder / "config").write_text(
        BARE + (f"x509_extensions = own\n[own]\n{extensions}\n" if extensions else "")
    )
    if not extensions:
        version_1(folder, name)
        return
    text = BARE.replace("[name]", f"x509_extensions = own\n[own]\n{extensions}\n[name]")
    (folder / "config").write_text(text)
    openssl(
        "req",
        "-x509",
        *NEW,
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.pem",
        "-days",
        "30",
        "-subj",
        f"/CN={name}",
        "-config",
        "config",
        folder=folder,
    )


def version_1(folder: Path, name: str) -> None:
    """An authority without any extension: openssl x509 -req -signkey, which since OpenSSL 3.2 adds some."""
    new = ["req", "-new", *NEW, "-keyout", f"{name}.key", "-subj", f"/CN={name}", "-config", "config"]
    days = ["-days", "30", "-out", f"{name}.pem"]
    openssl(*new, "-out", "r", folder=folder)
    openssl("x509", "-req", "-in", "r", "-signkey", f"{name}.key", *days, folder=folder)
    if version_of(folder / f"{name}.pem") != 1:
        openssl(*new, "-x509", "-x509v1", *days, folder=folder)
    assert version_of(folder / f"{name}.pem") == 1


def version_of(certificate: Path) -> int:
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-text"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return int(text.partition("Version: ")[2].split()[0])


def issue(
    folder: Path,
    subject: str,
    san: str = "",
    *,
    by: str = "ca",
    name: str = "server",
    extensions: str = "",
    days: int = 30,
) -> None:
    """A certificate signed by one of `authority`; without `san` there is the common name alone."""
    (folder / "config").write_text(BARE)
    openssl(
        "req",
        "-new",
        *NEW,
        "-keyout",
        f"{name}.key",
        "-out",
        "r",
        "-subj",
        f"/CN={subject}",
        "-config",
        "config",
        folder=folder,
    )
    more = (f"subjectAltName={san}\n" if san else "") + extensions
    (folder / "more").write_text(more)
    extra = ["-extfile", "more"] if more else []
    signed = ["-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial", "-days", str(days)]
    openssl("x509", "-req", "-in", "r", *signed, *extra, "-out", f"{name}.pem", folder=folder)


def tls_mosquitto(folder: Path, more: str = "") -> Mosquitto:
    lines = f"allow_anonymous true\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n{more}"
    return Mosquitto(folder, lines=lines).start()


CA_OF_RECIPES = {
    "version 1, no extensions at all": "",
    "only that it is an authority": "basicConstraints = CA:TRUE",
    "with its own identifier": "subjectKeyIdentifier = hash\nbasicConstraints = CA:TRUE",
    "openssl.cnf of Debian": "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid:always,issuer\nbasicConstraints = critical, CA:TRUE",
    "keyUsage without signing of lists": "basicConstraints = CA:TRUE\nkeyUsage = keyCertSign",
}


def looks_among_addresses_only() -> bool:
    """True for a mosquitto_sub that is newer than 2.0: an address that stands there as a name is none to it."""
    program = shutil.which("mosquitto_sub")
    if program is None:
        return False
    # It has no option for its version alone.
    said = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=30, check=False).stdout
    return not re.search(r"version 2\.0\.", said)


def mosquitto_sub_takes(port: int, host: str, folder: Path, cafile: str) -> bool:
    """True when the program of Debian's mosquitto-clients connects with the same files."""
    program = shutil.which("mosquitto_sub")
    if program is None:
        return True
    command = [program, "-h", host, "-p", str(port), "--cafile", f"{folder}/{cafile}", "-t", "x", "-E"]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def connects(
    run,
    folder: Path,
    mosquitto: Mosquitto,
    host: str = "127.0.0.1",
    cafile: str = "ca.pem",
    *,
    as_a_name: bool = False,
) -> None:
    """`as_a_name`: the certificate has the address as a name, which mosquitto_sub took until 2.0."""
    takes = mosquitto_sub_takes(mosquitto.port, host, folder, cafile)
    assert takes != (as_a_name and looks_among_addresses_only())
    running = run(mosquitto.port, server=(host,), tls=True, cafile=f"{folder}/{cafile}")
    running.tell(Found(SERIAL, 11))
    serving(running)
    running.tell(reading())
    wait_for(lambda: f"'{DATA}'" in mosquitto.log, "published")
    running.stop()
    mosquitto.stop()


@pytest.mark.parametrize("recipe", CA_OF_RECIPES)
def test_authority_made_by_hand_is_trusted(run, tmp_path, recipe):
    authority(tmp_path, extensions=CA_OF_RECIPES[recipe])
    issue(tmp_path, "broker", "IP:127.0.0.1")
    connects(run, tmp_path, tls_mosquitto(tmp_path))


@pytest.mark.parametrize(
    ("host", "subject", "san"),
    [
        ("127.0.0.1", "127.0.0.1", ""),
        ("localhost", "localhost", ""),
        ("127.0.0.1", "broker", "IP:127.0.0.1"),
        ("127.0.0.1", "broker", "DNS:127.0.0.1"),
        ("localhost", "broker", "DNS:localhost"),
        ("localhost", "broker", "DNS:elsewhere,DNS:localhost,IP:10.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "IP:10.0.0.1"),
    ],
)
def test_name_is_found_where_recipes_put_it(run, tmp_path, host, subject, san):
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, subject, san)
    as_a_name = host == "127.0.0.1" and "IP:127.0.0.1" not in san
    connects(run, tmp_path, tls_mosquitto(tmp_path), host, as_a_name=as_a_name)


def test_authority_that_is_none_is_refused_as_mosquitto_sub_does_and_the_remedy_is_named(
    run, tmp_path, caplog
):
    """Version 3 without basicConstraints: so the recipe of above ends with a newer OpenSSL."""
    (tmp_path / "config").write_text(BARE)
    new = ["-keyout", "ca.key", "-subj", "/CN=ca", "-config", "config", "-out", "r"]
    openssl("req", "-new", *NEW, *new, folder=tmp_path)
    (tmp_path / "more").write_text("subjectKeyIdentifier = hash\n")
    signed = ["-signkey", "ca.key", "-days", "30", "-extfile", "more", "-out", "ca.pem"]
    openssl("x509", "-req", "-in", "r", *signed, folder=tmp_path)
    issue(tmp_path, "broker", "IP:127.0.0.1")
    mosquitto = tls_mosquitto(tmp_path)
    if shutil.which("mosquitto_sub"):
        assert not mosquitto_sub_takes(mosquitto.port, "127.0.0.1", tmp_path, "ca.pem")
    run(mosquitto.port, tls=True, cafile=f"{tmp_path}/ca.pem")
    wait_for(
        lambda: "its certificate is not trusted: invalid CA certificate; what is in cafile" in caplog.text,
        "said",
    )
    assert "openssl req -x509 -addext basicConstraints=critical,CA:TRUE" in caplog.text
    mosquitto.stop()


def test_verbs_that_log_in_take_the_certificate_that_the_program_takes(tmp_path):
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, "127.0.0.1")
    mosquitto = tls_mosquitto(tmp_path)
    file = tmp_path / "goodwe.conf"
    file.write_text(
        f"[inverter]\nstatefile = {tmp_path}/state.json\n"
        f"[mqtt]\nserver = 127.0.0.1\nport = {mosquitto.port}\ntls = on\ncafile = {tmp_path}/ca.pem\n"
    )
    try:
        assert discovery.main(["clear"], load(str(file), required=True)[0], out=io.StringIO()) == 0
        machine = Machine(config_file=str(file), pidfile=f"{tmp_path}/pid", ask=lambda path: None)
        found = {each.check.name: each.result.grade for each in doctor.examine(machine, ["tls", "login"])}
        assert found == {"tls": Grade.OK, "login": Grade.OK}
    finally:
        mosquitto.stop()


def test_certificate_that_signs_itself_is_its_own_authority(run, tmp_path):
    authority(tmp_path, "server", "basicConstraints = CA:TRUE\nsubjectAltName = IP:127.0.0.1")
    connects(run, tmp_path, tls_mosquitto(tmp_path), cafile="server.pem")


def test_chain_with_an_authority_in_between(run, tmp_path):
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, "between", name="between", extensions="basicConstraints = CA:TRUE\n")
    issue(tmp_path, "broker", "IP:127.0.0.1", by="between")
    chain = (tmp_path / "server.pem").read_text() + (tmp_path / "between.pem").read_text()
    (tmp_path / "server.pem").write_text(chain)
    connects(run, tmp_path, tls_mosquitto(tmp_path))


def test_file_of_several_authorities_with_text_between_them(run, tmp_path):
    authority(tmp_path, "other", "basicConstraints = CA:TRUE")
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, "broker", "IP:127.0.0.1")
    parts = [(tmp_path / f"{name}.pem").read_text() for name in ("other", "ca")]
    (tmp_path / "ca.pem").write_text(
        "# the old one\n" + "\n# the new one: Müller\r\n".join(parts) + "\n# end\n"
    )
    connects(run, tmp_path, tls_mosquitto(tmp_path))


@pytest.mark.parametrize(
    ("host", "subject", "san", "said"),
    [
        ("127.0.0.1", "elsewhere", "", "its certificate is for another name"),
        ("127.0.0.1", "elsewhere", "IP:10.0.0.1", "its certificate is for another name"),
        ("127.0.0.1", "127.0.0.1", "DNS:elsewhere", "its certificate is for another name"),
        ("localhost", "elsewhere", "DNS:elsewhere", "its certificate is for another name"),
        ("localhost", "localhost", "DNS:elsewhere", "its certificate is for another name"),
    ],
)
def test_wrong_name_is_refused_and_server_is_what_to_check(run, tmp_path, caplog, host, subject, san, said):
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, subject, san)
    mosquitto = tls_mosquitto(tmp_path)
    run(mosquitto.port, server=(host,), tls=True, cafile=f"{tmp_path}/ca.pem", username="me")
    wait_for(lambda: said in caplog.text, "said")
    assert "check server in [mqtt]" in caplog.text
    assert "check cafile" not in caplog.text
    assert "connected from" not in mosquitto.log.replace("New connection from", ""), "nothing was said to it"
    mosquitto.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_wrong_authority_is_refused_and_cafile_is_what_to_check(run, tmp_path, caplog, host):
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, "broker", "IP:127.0.0.1,DNS:localhost")
    authority(tmp_path, "wrong", "basicConstraints = CA:TRUE")
    mosquitto = tls_mosquitto(tmp_path)
    run(mosquitto.port, server=(host,), tls=True, cafile=f"{tmp_path}/wrong.pem")
    wait_for(lambda: "its certificate is not trusted" in caplog.text, "said")
    assert "check cafile in [mqtt]" in caplog.text
    mosquitto.stop()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("version", ["tlsv1.3", "tlsv1.2"])
def test_client_certificate_that_is_wanted_and_missing_is_named(run, tmp_path, caplog, protocol, version):
    """With TLS 1.3 the broker says so only after the handshake, in an alert that paho keeps to itself."""
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, "broker", "IP:127.0.0.1")
    more = f"cafile {tmp_path}/ca.pem\nrequire_certificate true\ntls_version {version}\n"
    mosquitto = tls_mosquitto(tmp_path, more)
    run(mosquitto.port, tls=True, cafile=f"{tmp_path}/ca.pem", protocol=protocol)
    wait_for(lambda: "set certfile and keyfile in [mqtt]" in caplog.text, "said")
    mosquitto.stop()


def test_certificate_of_ours_from_a_wrong_authority_is_named(run, tmp_path, caplog):
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, "broker", "IP:127.0.0.1")
    authority(tmp_path, "wrong", "basicConstraints = CA:TRUE")
    issue(tmp_path, "logger", by="wrong", name="logger")
    more = f"cafile {tmp_path}/ca.pem\nrequire_certificate true\n"
    mosquitto = tls_mosquitto(tmp_path, more)
    own = {"certfile": f"{tmp_path}/logger.pem", "keyfile": f"{tmp_path}/logger.key"}
    run(mosquitto.port, tls=True, cafile=f"{tmp_path}/ca.pem", **own)
    wait_for(lambda: "it does not accept our certificate" in caplog.text, "said")
    assert "check certfile and keyfile in [mqtt]" in caplog.text
    mosquitto.stop()


# what is renewed on disk


def test_certificates_that_are_renewed_are_used_without_a_restart(run, tmp_path, caplog):
    """All of them: the broker's, its authority, ours; and a moment with a half-written file between."""
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, "broker", "IP:127.0.0.1")
    issue(tmp_path, "logger", name="logger")
    more = f"cafile {tmp_path}/ca.pem\nrequire_certificate true\n"
    mosquitto = tls_mosquitto(tmp_path, more)
    own = {"certfile": f"{tmp_path}/logger.pem", "keyfile": f"{tmp_path}/logger.key"}
    running = run(mosquitto.port, tls=True, cafile=f"{tmp_path}/ca.pem", **own)
    running.tell(Found(SERIAL, 11))
    serving(running)
    (tmp_path / "logger.pem").write_text("half a certific")
    mosquitto.stop()
    wait_for(lambda: "must be a certificate and its key" in caplog.text, "said, and tried again")
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    issue(tmp_path, "broker", "IP:127.0.0.1")
    issue(tmp_path, "logger", name="logger")
    mosquitto.start()
    serving(running)
    running.stop()
    mosquitto.stop()


def test_password_that_is_renewed_is_used_without_a_restart(run, tmp_path, caplog):
    def users(password: str) -> None:
        (tmp_path / "users").unlink(missing_ok=True)  # 2.1 makes none where one is
        command = ["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "me", password]
        subprocess.run(command, check=True, timeout=30)

    secret = tmp_path / "secret"
    secret.write_bytes(b"\xef\xbb\xbffirst-secret\r\n")
    users("first-secret")
    mosquitto = Mosquitto(tmp_path, lines=f"password_file {tmp_path}/users\n").start()
    running = run(mosquitto.port, username="me", passwordfile=str(secret))
    running.tell(Found(SERIAL, 11))
    serving(running)
    mosquitto.stop()
    users("second-secret")
    secret.unlink()
    wait_for(
        lambda: f"passwordfile = {secret}: must be a file that can be read (No such file" in caplog.text,
        "said, and tried again",
    )
    secret.write_text("second-secret\n")
    mosquitto.start()
    serving(running)
    assert "-secret" not in caplog.text
    running.stop()
    mosquitto.stop()


def test_context_is_shared_until_a_file_changes(tmp_path):
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    with_tls = settings(1883, tls=True, cafile=f"{tmp_path}/ca.pem")
    first = tls_for(with_tls, "nas")
    assert tls_for(with_tls, "other.example") is first
    assert tls_for(with_tls, "10.0.0.1") is not first, "it looks for addresses in another way"
    os.replace(tmp_path / "ca.pem", tmp_path / "old.pem")
    authority(tmp_path, extensions="basicConstraints = CA:TRUE")
    assert tls_for(with_tls, "nas") is not first
    assert tls_for(settings(1883)) is None


def test_flags_are_the_same_on_each_python():
    context = tls_context("", "", "")
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname


@pytest.mark.parametrize(
    ("certificate", "address", "fits"),
    [
        ({"subjectAltName": (("IP Address", "10.0.0.1"),)}, "10.0.0.1", True),
        ({"subjectAltName": (("IP Address", "10.0.0.2"),)}, "10.0.0.1", False),
        ({"subjectAltName": (("IP Address", "0:0:0:0:0:0:0:1\n"),)}, "::1", False),
        ({"subjectAltName": (("IP Address", "0:0:0:0:0:0:0:1"),)}, "::1", True),
        ({"subjectAltName": (("DNS", "10.0.0.1"),)}, "10.0.0.1", True),
        ({"subjectAltName": (("DNS", "*.0.0.1"),)}, "10.0.0.1", False),
        ({"subject": ((("commonName", "10.0.0.1"),),)}, "10.0.0.1", True),
        (
            {"subject": ((("commonName", "10.0.0.1"),),), "subjectAltName": (("DNS", "nas"),)},
            "10.0.0.1",
            False,
        ),
        ({"subject": ((("organizationName", "10.0.0.1"),),)}, "10.0.0.1", False),
        ({"subject": ((("commonName", "10.0.0.1"), ("commonName", "nas")),)}, "10.0.0.1", False),
        ({}, "10.0.0.1", False),
    ],
)
def test_address_is_looked_for_in_a_certificate(certificate, address, fits):
    assert names_address(certificate, address) == fits


@pytest.mark.parametrize(
    ("host", "address"), [("10.0.0.1", True), ("::1", True), ("nas", False), ("10.0.0", False), ("", False)]
)
def test_address_is_told_from_a_name(host, address):
    assert is_address(host) == address


def test_password_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StartError, match="not UTF-8 text"):
        password_for(settings(1883, passwordfile=str(tmp_path / "secret")))


def test_file_that_cannot_be_read_is_not_called_one_with_the_wrong_content(tmp_path):
    with pytest.raises(StartError, match=r"cafile = .*: cannot be read \(No such file or directory\)"):
        tls_context(str(tmp_path / "none.pem"), "", "")
    with pytest.raises(StartError, match=r"keyfile = .*: cannot be read \(No such file or directory\)"):
        tls_context("", str(tmp_path / "none.pem"), str(tmp_path / "none.key"))
