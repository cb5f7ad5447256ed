"""Changes of zip archives: members with other bytes, names and order, whose checksums fit all the same."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from bench.faults.fuzz.target import Mutator


def mutate_zip(of_member: Mutator | None = None) -> Mutator:
    """A change of archives, of the bytes of a member by `of_member` if that is given; others are changed as bytes."""

    def mutate(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [[info.filename, archive.read(info), info.compress_type] for info in archive.infolist()]
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, KeyError):
            return blind(data)
        if not members:
            return blind(data)
        n = chance.randrange(len(members))
        kind = chance.randrange(8)
        if kind == 0 and len(members) > 1:
            del members[n]
        elif kind == 1:
            members.append(list(members[n]))
        elif kind == 2:
            members[n][0] = chance.choice(["data.pkl", "x", "../x", "/tmp/x", f"{members[n][0]}x", members[-1][0]])
        elif kind == 3:
            members[n][1] = chance.choice([b"", members[n][1] * 2, members[n][1][:-1], bytes(1 << 16)])
        elif of_member is not None and chance.random() < 0.7:
            members[n][1] = of_member(members[n][1], chance, blind)
        else:
            members[n][1] = blind(members[n][1])
        packed = chance.random() < 0.1
        with io.BytesIO() as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, content, compression in members:
                    info = zipfile.ZipInfo(str(name))
                    info.compress_type = zipfile.ZIP_DEFLATED if packed else compression
                    archive.writestr(info, content)
            return file.getvalue()

    return mutate
