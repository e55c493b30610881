"""Write the documents that are made of rows: python3 -m goodwe.tools.documents, in a checkout."""

from pathlib import Path

from .. import cli, config
from . import manual


def main(root: Path) -> None:
    """Write all of them anew, in the checkout at `root`."""
    for name, text in generated().items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    for name, mark, table in (
        ("commands.md", "verbs", cli.table()),
        ("configuration.md", "configuration", config.table()),
    ):
        path = root / "etc" / "doc" / name
        path.write_text(_replaced(path.read_text("utf-8"), mark, table), "utf-8")


def generated() -> dict[str, str]:
    """Each file that is nothing but made of rows: its path in the checkout, and its text."""
    return {
        "etc/goodwe.conf": config.sample(),
        "etc/man/GoodWe.py.8": manual.manual_of_the_program(),
        "etc/man/goodwe.conf.5": manual.manual_of_the_configuration(),
        "etc/completion/GoodWe.py.bash": manual.completion(manual.BASH),
        "etc/completion/GoodWe.py.zsh": manual.completion(manual.ZSH),
        "etc/completion/GoodWe.py.fish": manual.completion(manual.FISH),
    }


def part(text: str, name: str) -> str:
    """The part of a document between its two marks with that name."""
    begin, end = _marks(name)
    return text.partition(begin)[2].partition(end)[0]


def _replaced(text: str, name: str, table: str) -> str:
    begin, end = _marks(name)
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return before + begin + table + end + after


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->\n", f"<!-- end of {name} -->"


if __name__ == "__main__":
    main(Path(__file__).resolve().parents[2])
