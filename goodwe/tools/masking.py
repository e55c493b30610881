"""Secrets out of texts that somebody else is to read: of the configuration, a log, anything.

Three nets, one behind the other. Where a key says so, its value is masked, in a line of the configuration and
in a comment alike, and what stands before an @. A secret of the configuration is masked wherever it stands,
in each form in which it may be written. And a private key is masked as a whole.
"""

import base64
import json
import re
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote

from ..config import all_kinds
from ..config.parsers import COMMENT, FILE_NAME, password_file
from ..config.source import HEADING, KEY, TELLING, normalized, quoted, quoted_name

MASK = "***"
SHORT = 4
"""Characters below which a secret is masked as a word only, not inside of others."""
PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
IN_URL = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@]*@")
BEFORE_AT = re.compile(r"\S+@(?=\S)")
TOLD = re.compile(
    r"(?P<name>[\w-]*(?:pass|pwd|\bpw\b|secret|token|kennwort|wachtwoord|geheim|senha|clave|user)[\w-]*)"
    r"(?P<between>[\"']?\s*[=:]\s*)(?P<value>\"[^\"]*\"|'[^']*'|\S+)",
    re.IGNORECASE,
)
"""name = value or name: value, where the name tells of a secret."""
MIXED = re.compile(r"(?<!\S)(?=\S*\d)(?=\S*[A-Za-z])(?!/)\S{6,}")
"""A word of letters and digits, as passwords are."""
NO_SECRET = ("", "null", "true", "false", "on", "off", MASK)
USER = re.compile(r"(?i)\buser|benutzer|gebruiker")


class Masker:
    """Masks texts; it knows the secrets of this machine."""

    def __init__(self, secrets: Collection[str], public: str = "") -> None:
        """`secrets` are texts that nobody is to see. One that is a word of `public` hides nothing."""
        self._public = words = set(re.findall(r"[\w.-]+", public))
        parts = {part for secret in secrets for part in (secret, *secret.splitlines())}
        known = {part.strip() for part in parts} - words - {""}
        forms = {form for secret in known for form in _forms(secret)}
        self._known = re.compile(
            "|".join(
                re.escape(form) if len(form) >= SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"
                for form in sorted(forms, key=len, reverse=True)
            )
            or r"(?!)"
        )

    def __call__(self, text: str) -> str:
        """The text of a log or a report without secrets."""
        text = PRIVATE_KEY.sub(MASK, text)
        text = IN_URL.sub(rf"\g<1>{MASK}@", text)
        text = TOLD.sub(self._masked_value, text)
        return self.known(text)

    def known(self, text: str) -> str:
        """The text without the secrets that are known, whatever stands around them."""
        return self._known.sub(MASK, text)

    def _masked_value(self, found: re.Match[str]) -> str:
        """The name of a file stays, and what is no secret; any other value of a telling name goes."""
        value, name = found["value"], found["name"]
        bare = value.strip("\"',}]")
        if name.lower().endswith("file") or bare in NO_SECRET or bare in self._public:
            return found[0]
        return f"{name}{found['between']}{MASK}{value[len(value.rstrip('],;}')) :]}"

    def configuration(self, text: str) -> str:
        """A configuration file, whole or broken, without secrets; comments stay where they can."""
        return self.known(PRIVATE_KEY.sub(MASK, "\n".join(_settings_masked(text.split("\n"), _ours()))))


def secrets_in(text: str) -> set[str]:
    """Texts that a configuration, whole or broken, has for secrets, in settings and comments alike."""
    found: set[str] = set()
    for line in normalized(text).split("\n"):
        bare = line.strip().lstrip("#; \t")
        name, sign, value = _split(bare)
        value = value.strip()
        if sign and _is_secret(name) and not name.lower().endswith("file"):
            found |= {value, value.strip("\"'")}
        for login in re.findall(r"://([^\s/@]*)@", line):
            found |= {unquote(part) for part in login.split(":")} | set(login.split(":"))
        found |= {each["value"].strip("\"'") for each in TOLD.finditer(bare) if "/" not in each["value"]}
        if sign and (behind := COMMENT.search(value)):  # messages about it quote it
            found |= set(MIXED.findall(value[behind.start() :]))
    return {each for each in found if each and each != MASK}


def files_with_secrets(text: str) -> list[str]:
    """Paths or names that a configuration names for its secrets: passwordfile, keyfile."""
    settings = (_split(line.strip().lstrip("#; \t")) for line in normalized(text).split("\n"))
    named = re.compile(r"(?i)(?:pass\w*|key|token|secret)file")
    return [value.strip() for name, sign, value in settings if sign and named.fullmatch(name)]


def _settings_masked(lines: Iterable[str], ours: Collection[str]) -> Iterator[str]:
    options = {option.attribute: option for kind in all_kinds().values() for option in kind.options()}
    for line in lines:
        text = line.strip()
        name, sign, value = _split(text)
        option = options.get(name.lower())
        if not text or line in ours:
            yield line
        elif text[0] in "#;":
            yield _comment(line)
        elif line[0].isspace():  # goes on with the value above, whatever that is
            yield f"  {MASK}"
        elif heading := HEADING.match(text):
            yield f"[{quoted_name(heading['header']) or MASK}]"
        elif not sign or option is None:  # somebody may have misspelt password
            yield f"{quoted_name(name) or MASK}{f' {sign} {MASK}' if sign else ''}"
        elif _is_secret(name) and not name.lower().endswith("file"):
            yield f"{name} {sign} {MASK if value.strip() else ''}".rstrip()
        elif option.parse is password_file and not FILE_NAME.fullmatch(value.strip()):
            yield f"{name} {sign} {MASK}"  # perhaps the password itself
        else:
            yield f"{name} {sign} {_public_value(value.strip())}".rstrip()


def _public_value(value: str) -> str:
    behind = COMMENT.search(value)
    bare, comment = (value[: behind.start()], _comment(value[behind.start() :])) if behind else (value, "")
    return quoted(bare, is_path=bare.startswith(("/", "unix:/"))) + comment


def _comment(line: str) -> str:
    """A comment of a user's own: kept as far as no secret can be in it."""
    ends = [found.end() for pattern in (TELLING, USER) if (found := pattern.search(line)) is not None]
    if ends:
        return f"{line[: min(ends)]} {MASK}"
    return MIXED.sub(MASK, BEFORE_AT.sub(f"{MASK}@", line))


def _ours() -> set[str]:
    """Lines of the sample file, which everybody has."""
    from ..config import sample

    return set(sample().splitlines())


def _split(text: str) -> tuple[str, str, str]:
    """Key, sign and value of a setting; without a sign, the text and nothing."""
    found = KEY.match(text)
    return (found[1].strip(), text[found.end() - 1], text[found.end() :]) if found else (text, "", "")


def _is_secret(name: str) -> bool:
    return bool(TELLING.search(name)) or name.lower() in ("username", "user")


def _forms(secret: str) -> set[str]:
    """A secret as it is, and as others write it: in JSON, in a URL, in Python, in base64."""
    plain = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    plain.add(repr(secret)[1:-1])
    plain |= {
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        secret.encode("unicode_escape").decode(),
    }
    if len(secret) >= SHORT:
        plain |= {base64.b64encode(secret.encode()).decode().rstrip("="), secret.encode().hex()}
    return plain
