"""Write the documents that are made of rows: python3 -m goodwe.tools.documents, in a checkout."""

from pathlib import Path

from .. import config

BEGIN, END = "<!-- configuration -->\n", "<!-- end of configuration -->"


def main(root: Path) -> None:
    """Write etc/goodwe.conf and the table in README.md anew."""
    (root / "etc" / "goodwe.conf").write_text(config.sample(), "utf-8")
    readme = root / "README.md"
    before, _, rest = readme.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(before + BEGIN + config.table() + END + after, "utf-8")


if __name__ == "__main__":
    main(Path(__file__).resolve().parents[2])
