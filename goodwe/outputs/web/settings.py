"""Section [web] of the configuration: the page and the metrics."""

import ipaddress
import re
from dataclasses import dataclass

from ...config.options import OutputSection, option
from ...config.parsers import OWN_QUOTES, QUOTES, switch


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
SELF, NOBODY = "'self'", "'none'"
"""Words of Content-Security-Policy, which have their quotes: bare, they are names of hosts."""
WORDS = {"self": SELF, "none": NOBODY}
FRAME = re.compile(r"'self'|\*|(https?://)?[A-Za-z0-9.*_-]+(:(\d{1,5}|\*))?")


def address(raw: str) -> Address:
    """Address and port."""
    meant = "an address and a port, such as 127.0.0.1:8765, or 0.0.0.0:8765 for the whole house"
    host, colon, port = raw.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise ValueError(meant)
    if host == "localhost":
        return Address("127.0.0.1", int(port))
    try:
        return Address(str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port))
    except ValueError as error:
        raise ValueError(meant) from error


def names(raw: str) -> tuple[str, ...]:
    """Host names separated by commas, in lower case."""
    found = tuple(part.strip().lower().rstrip(".") for part in raw.split(",") if part.strip())
    if not all(NAME.fullmatch(one) for one in found):
        raise ValueError("names of hosts separated by commas, without http:// and without a port")
    return found


def frame(raw: str) -> str:
    """Who may show the page within his own: sources of Content-Security-Policy, separated by blanks."""
    # Bare, or in other quotes, they would be the names of hosts, which nobody means.
    sources = [WORDS.get(one.strip(QUOTES).lower(), one) for one in raw.split()]
    if not sources or sources == [NOBODY]:
        return NOBODY
    if NOBODY in sources:
        raise ValueError(f"{NOBODY} alone, or the origins without it")
    if not all(FRAME.fullmatch(one) for one in sources):
        raise ValueError(
            "origins separated by blanks, without quotes, such as http://homeassistant.local:8123"
        )
    return " ".join(sources)


OWN_QUOTES.add(frame)


@dataclass(frozen=True, kw_only=True)
class WebSettings(OutputSection):
    """Section [web]."""

    NAME = "web"

    listen: Address = option(  # noqa: RUF009 (it makes a field)
        "127.0.0.1:8765", address, "Address and port of the page; 0.0.0.0:8765 shows it to the whole house."
    )
    names: tuple[str, ...] = option(
        "",
        names,
        "Further host names by which the page is called, separated by commas.",
        no_switch="leave it empty for none",
    )
    frame: str = option(
        "",
        frame,
        "Pages that may embed ours, such as http://homeassistant.local:8123; empty for none.",
        no_switch="leave it empty for none",
    )
    metrics: bool = option("off", switch, "Serve /metrics for Prometheus.")
