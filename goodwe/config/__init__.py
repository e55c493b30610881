"""The configuration: what stands in its file, checked, as one frozen dataclass for each section."""

from ..paths import CONFIGURATION as PATH
from .documents import sample, shown, table
from .file import DEFAULT_OUTPUT, LEFT_OVER, SEEN_BY_ALL, all_kinds, load, nearest, parse
from .inverter import InverterSettings
from .options import Complaint, Config, Option, OutputSection, Section, option
from .parsers import Secret, is_below, make_log_folder
from .rules import OUT_OF_REACH, apart_from, own_files

__all__ = [
    "DEFAULT_OUTPUT",
    "LEFT_OVER",
    "OUT_OF_REACH",
    "PATH",
    "SEEN_BY_ALL",
    "Complaint",
    "Config",
    "InverterSettings",
    "Option",
    "OutputSection",
    "Secret",
    "Section",
    "all_kinds",
    "apart_from",
    "is_below",
    "load",
    "make_log_folder",
    "nearest",
    "option",
    "own_files",
    "parse",
    "sample",
    "shown",
    "table",
]
