"""Modules that a library imports and hardly ever uses: loaded when they are used."""

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

_GIVING_WAY = threading.Lock()
"""Two threads can be the first: one of them would take the module away that the other one is loading."""


class _OnDemand(ModuleType):
    """Stands for a module until somebody wants something of it."""

    def __getattr__(self, name: str) -> Any:
        with _GIVING_WAY:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def load_on_demand(name: str) -> None:
    """Let the next `import` of that module, one inside a package, load nothing: its first use does.

    Nothing happens if it is loaded already.
    """
    if name not in sys.modules:
        package, _, last = name.rpartition(".")
        sys.modules[name] = _OnDemand(name)
        setattr(importlib.import_module(package), last, sys.modules[name])
