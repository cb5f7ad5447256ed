"""Changes of documents by their structure: JSON, YAML and XML stay what they are, and say something else."""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e-300, 1e300, float("nan"),
    float("inf"), float("-inf"), "", " ", "x" * 300,
    "x" * 3000, "\0", "a/../b", "/etc/passwd", "..", "\n", "é", "\udc80", "nan",
    "1e999", "[1]", "{}", "_0", "tumor", [], [None], [[]], {}, {"": None}, [1, 2, 3], [[1, 2]], [float("nan"), 0],
)  # fmt: skip
"""To be put in the place of anything."""


def mutate_json(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """A JSON document with one to three things changed; bytes that are none are changed as bytes."""
    is_packed = data[:2] == b"\x1f\x8b"
    try:
        document = json.loads(gzip.decompress(data) if is_packed else data)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return blind(data)
    changed = json.dumps(changed_tree(document, chance)).encode()
    return gzip.compress(changed, mtime=0) if is_packed else changed


def mutate_yaml(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """The same of YAML."""
    try:
        document = yaml.safe_load(data)
        if not isinstance(document, dict | list):
            return blind(data)
        return yaml.safe_dump(changed_tree(document, chance), sort_keys=False, default_flow_style=None).encode()
    except (ValueError, yaml.YAMLError, RecursionError, TypeError, AttributeError, LookupError):
        return blind(data)


def mutate_xml(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """The same of XML: attributes, elements and their order."""
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return blind(data)
    for _ in range(chance.randint(1, 3)):
        nodes = list(root.iter())
        node, other = chance.choice(nodes), chance.choice(nodes)
        kind = chance.randrange(5)
        if kind == 0 and node.attrib:
            node.set(chance.choice(list(node.attrib)), chance.choice([*_TEXTS, *other.attrib.values()]))
        elif kind == 1 and node.attrib:
            del node.attrib[chance.choice(list(node.attrib))]
        elif kind == 2 and len(node):
            node.remove(chance.choice(list(node)))
        elif kind == 3 and node not in other.iter():
            other.append(copy.deepcopy(node))
        else:
            node.tag = chance.choice([one.tag for one in nodes])
    return ElementTree.tostring(root)


_TEXTS = (
    "", "0", "-1", "1e400", "nan", "inf", "1,5", "1.5.5", "99999999999999999999", "x" * 100, "Polygon", "Rectangle",
    "Spline",
    "Dot", "PointSet", "None", "_0", "_1", "_2", "tumor", "exclusion", "٣", "1_0", "0x10", " 1 ", "1e39",
)  # fmt: skip


def changed_tree(document: Any, chance: Random) -> Any:
    """A copy of nested lists, mappings and values with one to three things changed."""
    document = copy.deepcopy(document)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(document))
        if not places:
            return chance.choice(ODD_VALUES)
        holder, key = chance.choice(places)
        _change(holder, key, chance, places)
    return document


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Holder and key of everything within a document."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting and len(found) < 2000:
        one = waiting.pop()
        items = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, value in items:
            found.append((one, key))
            waiting.append(value)
    return found


def _change(holder: Any, key: Any, chance: Random, places: list[tuple[Any, Any]]) -> None:
    other, its_key = chance.choice(places)
    another = other[its_key] if not isinstance(other, list) or its_key < len(other) else None
    present = key in holder if isinstance(holder, dict) else key < len(holder)
    if not present:
        return
    value = holder[key]
    kind = chance.randrange(9)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        del holder[key]
        holder[chance.choice([its_key, "x", ""]) if isinstance(its_key, str) else "x"] = value
    elif kind == 2:
        holder[key] = copy.deepcopy(another)
    elif kind == 3 and isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = chance.choice([value + 1, value - 1, -value, value * 2, value / 3, value * 1e6, str(value)])
    elif kind == 4 and isinstance(value, list):
        holder[key] = chance.choice([value * 2, value[:1], value[1:], value[::-1], [value], [*value, another]])
    elif kind == 5 and isinstance(value, str):
        holder[key] = chance.choice([value.upper(), value * 2, value[1:], f"{value}\0", [value], {value: value}])
    elif kind == 6 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(another))
    elif kind == 7:
        nested: Any = value
        for _ in range(chance.choice([1, 3, 200])):
            nested = [nested]
        holder[key] = nested
    else:
        holder[key] = copy.deepcopy(chance.choice(ODD_VALUES))
