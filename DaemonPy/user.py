"""Become another user for good, as a daemon does once it has what only root may have."""

import os
import pwd
import stat
from typing import Any


def become(user: pwd.struct_passwd, system: Any = os) -> None:
    """Go on as this user, with his groups and his home, and no way back; `system` is os, or like it.

    Raises PermissionError where we are not root.
    """
    system.initgroups(user.pw_name, user.pw_gid)  # the groups first: the user may not change them
    system.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    system.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    system.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)
    try:
        system.setuid(0)
    except PermissionError:
        return
    raise RuntimeError(f"root could be had again after becoming {user.pw_name}")


def make_folder(path: str, user: pwd.struct_passwd) -> None:
    """Make a folder for the user, if none is there and he could not. Raises OSError."""
    if not os.path.isdir(path):
        os.makedirs(path, exist_ok=True)
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def give(descriptor: int, path: str, user: pwd.struct_passwd) -> bool:
    """Make the user owner of the open file at `path`; False for what may be another's.

    In a folder that others may write to, the path may lead to a file that is none of theirs.
    """
    opened, there = os.fstat(descriptor), os.lstat(path)
    if not (stat.S_ISREG(there.st_mode) and os.path.samestat(opened, there) and opened.st_nlink == 1):
        return False
    os.fchown(descriptor, user.pw_uid, user.pw_gid)
    return True
