"""The rights of files that this process makes: whoever makes one must be able to read it again."""

from __future__ import annotations

import os
import stat


def keep_owners_rights() -> int:
    """Let the owner read, write and enter what this process and its children make from now on, whatever the umask says.

    A run reads its own lock, journal and half-made result while it goes. What the umask says of others stays.

    Returns
    -------
    int
        The umask that took such rights away; 0 where none did.
    """
    asked = os.umask(0o077)
    os.umask(asked & ~stat.S_IRWXU)
    return asked if asked & stat.S_IRWXU else 0
