"""Params files that are broken in every way: what hypothesis draws from, and the nastiest by hand."""

# ruff: noqa: E501  tables

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = [ROOT / "params" / f"{name}.yaml" for name in ("smoke", "rivals", "interference", "imagenet_lsun")]
TAB, BELL, RIGHT_TO_LEFT = "\t", "\x07", "\u202e"

TEXTS = (
    "", " ", "-", "--help", "..", "../..", "/etc/passwd", "a/b", "a b", "'", '"', "`id`", "$(touch canary)", "; touch canary",
    "| touch canary", "a\nb", "a\x00b", BELL, "\x1b[31m", RIGHT_TO_LEFT + "abc", "\U0001f600", "{x}", "{{wildcards}}", "%s",
    "1e-4", "0x10", "010", "1_000", "yes", "no", "null", "~", "nan", "x" * 5000, "kind", "digits", "train",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 3, 7, 10**6, 2**31, 2**63 - 1, 2**63, 10**30, -(10**30), 10**400, 0.0, -0.0, 0.5, 1.0, 1.5, -1.5, 1e-300, 1e300,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
OTHERS = (
    None, True, False, [], {}, [None], [[]], {"": None}, [1, "a"], {1: 2}, datetime.date(2020, 1, 1), b"\xff\x00",
    {"of": "novel", "count": 3}, {"of": "seen", "count": -1, "seed": "x"}, ["kind", "kind"], list(range(300)),
)  # fmt: skip
VALUES = (
    st.sampled_from((*TEXTS, *NUMBERS, *OTHERS)).map(copy.deepcopy) | st.text(max_size=12) | st.integers() | st.floats()
)
KEYS = st.sampled_from(
    (
        "extends", "without", "experiments", "name", "seeds", "data", "model", "backbones", "pretrain", "tasks", "finetune",
        "methods", "sampling", "evaluation", "compute", "tune", "ablations", "analyses", "replay", "embedding", "diffusion",
        "form", "source", "options", "match", "method", "learning_rate", "classes", "preset", "steps", "curve", "type",
    )
) | VALUES.filter(lambda value: isinstance(value, str | int | float | bool | datetime.date) or value is None)  # fmt: skip


def places(content: Any, path: tuple = ()) -> list[tuple]:
    """Paths to all that can be changed."""
    found = [path] if path else []
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        found += places(value, (*path, key))
    return found


@st.composite
def structures(draw, files: list[dict]) -> Any:
    """A valid file's content after one to four changes: keys deleted, doubled, renamed, values replaced, parts moved."""
    content = copy.deepcopy(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        there = places(content)
        if not there:
            break
        *path, key = draw(st.sampled_from(there))
        holder = content
        for part in path:
            holder = holder[part]
        change = draw(st.sampled_from(("delete", "value", "value", "value", "rename", "add", "move", "same", "deep")))
        if change == "delete":
            del holder[key]
        elif change == "rename" and isinstance(holder, dict):
            holder[draw(KEYS)] = holder.pop(key)
        elif change == "add" and isinstance(holder[key], dict):
            holder[key][draw(KEYS)] = draw(VALUES)
        elif change == "move":
            source: Any = content
            for part in draw(st.sampled_from(there)):
                source = source[part] if isinstance(source, dict | list) and _has(source, part) else source
            holder[key] = copy.deepcopy(source)
        elif change == "same" and isinstance(holder, dict):
            holder[f"{key}2"] = holder[key]  # one object twice: an alias in the file
        elif change == "deep":
            for _ in range(draw(st.integers(1, 60))):
                holder[key] = draw(st.sampled_from(([holder[key]], {"a": holder[key]})))
        else:
            holder[key] = draw(VALUES)
    return content


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)


class _Dumper(yaml.SafeDumper):
    """Of all that may be drawn."""


def as_yaml(content: Any) -> bytes:
    return yaml.dump(content, Dumper=_Dumper, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw, texts: list[bytes]) -> bytes:
    """A valid file's bytes after one to three changes of what stands there: cut, overwritten, lines doubled, tabs ..."""
    content = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 3))):
        lines = content.split(b"\n")
        at, line = draw(st.integers(0, len(content))), draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(("cut", "insert", "overwrite", "double", "drop", "indent", "token", "swap")))
        if change == "cut":
            content = content[:at]
        elif change == "insert":
            content = content[:at] + draw(st.binary(min_size=1, max_size=4)) + content[at:]
        elif change == "overwrite":
            content = content[:at] + draw(st.binary(min_size=1, max_size=2)) + content[at + 2 :]
        elif change == "token":
            content = content[:at] + draw(st.sampled_from(TOKENS)) + content[at:]
        else:
            if change == "double":
                lines.insert(line, lines[line])
            elif change == "drop":
                del lines[line]
            elif change == "indent":
                lines[line] = draw(st.sampled_from((b" ", b"\t", b"    "))) + lines[line]
            else:
                other = draw(st.integers(0, len(lines) - 1))
                lines[line], lines[other] = lines[other], lines[line]
            content = b"\n".join(lines)
    return content


TOKENS = (
    b"&a ", b"*a ", b"<<: *a\n", b"!!python/object/apply:os.system ['touch canary'] ", b"!!binary ", b"!!set ", b"!x ", b"? ",
    b"- ", b": ", b"{", b"}", b"[", b"]", b"---\n", b"...\n", b"%YAML 9.9\n", b"|\n", b">\n", b"#", b"'", b'"', b"\xef\xbb\xbf",
    b"\xff\xfe", b"\x00", b"\r", b"@", b"`", b"1e999", b".nan", b"2020-99-99", b"0b2", b"1:90", b"~", b"!!int x ",
)  # fmt: skip


def laughs(depth: int = 12, width: int = 10) -> str:
    """A few lines that are 10^12 strings when they are written out."""
    lines = ["a0: &a0 [lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join(lines) + "\n"


def merges(depth: int = 10, width: int = 10) -> str:
    """The same by merge keys."""
    lines = ["a0: &a0 {" + ", ".join(f"k{i}: 1" for i in range(width)) + "}"]
    lines += [f"a{d}: &a{d} {{<<: [{', '.join([f'*a{d - 1}'] * width)}], m{d}: 1}}" for d in range(1, depth)]
    return "\n".join(lines) + "\n"


def by_hand(valid: str) -> dict[str, bytes]:
    """Name -> a whole file."""
    texts: dict[str, str | bytes] = {
        "empty": "",
        "only a comment": "# nothing\n",
        "only spaces": "   \n\n",
        "null": "~\n",
        "a list": "- a\n- b\n",
        "a number": "3\n",
        "a text": "hello\n",
        "two documents": valid + "---\n" + valid,
        "binary": bytes(range(256)) * 8,
        "an ELF": b"\x7fELF" + b"\x00" * 100,
        "a pickle": b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "invalid UTF-8": valid.encode().replace(b"for tests", b"\xff\xfe\xfa"),
        "UTF-16": valid.encode("utf-16"),
        "half a surrogate": valid.encode().replace(b"for tests", b"\xed\xa0\x80"),
        "a tab": valid.replace("  digits", "\tdigits"),
        "a NUL": valid.replace("digits", "dig\0its", 1),
        "control characters": valid.replace("for tests", "\x1b[2J\x07"),
        "an escape as a data set": valid.replace("data:\n", 'data:\n  "\\e": {source: digits}\n', 1),
        "an escape as a data set of another mistake": valid.replace("data:\n", 'data:\n  "\\e": {source: digits, split: 1}\n', 1),
        "a Python object": valid + "replay: !!python/object/apply:os.system ['touch canary']\n",
        "a Python tuple": valid + "replay: !!python/tuple [1, 2]\n",
        "a Python name": valid + "replay: !!python/name:os.system\n",
        "an unknown tag": valid + "replay: !thing {a: 1}\n",
        "a binary": valid.replace("seeds: [0, 1]", "seeds: !!binary aGVsbG8="),
        "a set": valid.replace("seeds: [0, 1]", "seeds: !!set {0, 1}"),
        "a wrong int": valid.replace("seeds: [0, 1]", "seeds: !!int x"),
        "a wrong date": valid.replace("seeds: [0, 1]", "seeds: 2020-99-99"),
        "a date": valid.replace("seeds: [0, 1]", "seeds: [2020-01-01]"),
        "an octal": valid.replace("steps: 10", "steps: 0o10"),
        "a class that is false": valid.replace("classes: [A, C, E]}", "classes: [no, C, E]}"),
        "a text number": valid.replace("1.0e-3", "1e-3"),
        "not a number": valid.replace("learning_rate: 1.0e-3", "learning_rate: .nan"),
        "infinite": valid.replace("learning_rate: 1.0e-3", "learning_rate: .inf"),
        "a number of 5000 digits": valid.replace("steps: 10", "steps: " + "9" * 5000),
        "a number of 200,000 digits": valid.replace("steps: 10", "steps: " + "9" * 200_000),
        "a hexadecimal number of 200,000 digits": valid.replace("steps: 10", "steps: 0x" + "f" * 200_000),
        "laughs as seeds": laughs() + valid.replace("seeds: [0, 1]", "seeds: *a11"),
        "laughs as options": laughs() + valid.replace("options: {classes: [A, C, E], images_per_class: 40}", "options: *a11"),
        "laughs as a description": laughs() + valid.replace("description: for tests", "description: *a11"),
        "merges": merges() + valid.replace("model: {preset: micro/2}", "model: *a9"),
        "merges by ten": merges(5, 12) + valid.replace("model: {preset: micro/2}", "model: {<<: *a4, preset: micro/2}"),
        "a list that holds itself": valid.replace("seeds: [0, 1]", "seeds: &s [0, *s]"),
        "a mapping that holds itself": valid.replace("model: {preset: micro/2}", "model: &m {preset: micro/2, inner: *m}"),
        "a task that holds itself": valid.replace("tasks:", "tasks: &t\n  again: *t"),
        "methods that hold themselves": valid.replace("methods: {", "methods: &m {again: *m, "),
        "an alias of nothing": valid.replace("seeds: [0, 1]", "seeds: *nothing"),
        "a key twice": valid + "seeds: [3]\n",
        "an anchor twice": valid.replace("seeds: [0, 1]", "seeds: &a [&a 0, *a]"),
        "deep brackets": "a: " + "[" * 3_000,
        "deep closed brackets": "a: " + "[" * 1_000 + "]" * 1_000 + "\n",
        "deep mappings": "".join(f"{' ' * i}a:\n" for i in range(1200)),
        "deep mappings as options": valid.replace("{classes: [A, C, E], images_per_class: 40}", "{a: " * 400 + "1" + "}" * 400),
        "a list as a key": valid + "? [1, 2]\n: 3\n",
        "a mapping as a key": valid + "? {a: 1}\n: 3\n",
        "null as a key": valid + "~: 3\n",
        "a name with a slash": valid.replace("  novel:", "  ../novel:"),
        "a name of options": valid.replace("  novel:", "  --novel:"),
        "a name with a command": valid.replace("  novel:", "  $(touch canary):"),
        "a name with braces": valid.replace("  novel:", "  '{novel}':"),
        "a name of 5000 letters": valid.replace("  novel:", "  " + "n" * 5000 + ":"),
        "an unknown extends": "extends: nothing.yaml\n" + valid,
        "extends itself": "extends: broken.yaml\n" + valid,
        "extends a folder": "extends: .\n" + valid,
        "extends elsewhere": "extends: ../../../../etc/passwd\n" + valid,
        "extends a device": "extends: /dev/zero\n" + valid,
        "extends a list": "extends: [a, b]\n" + valid,
        "extends with NUL": 'extends: "a\\0.yaml"\n' + valid,
        "without nothing there": "extends: other.yaml\nwithout: [methods.none, '...', '', 3]\n",
        "a collection of itself": "experiments: [broken]\n",
        "a collection of nothing": "experiments: []\n",
        "a collection with a path": "experiments: [../x]\n",
        "11,000 keys": "".join(f"k{i}: 1\n" for i in range(11_000)),
        "a long line": valid.replace("for tests", "x" * 200_000),
        "10^18 samples": valid.replace("num_samples: 20", "num_samples: 1000000000000000000"),
        "10^18 learngenes": valid.replace("num_learngenes: 20", "num_learngenes: 4611686018427387904"),
        "10^18 curve points": valid.replace("curve: [0.5]", "curve: [1.0e-300, 5.0e-324, 0.999999999999]"),
    }  # fmt: skip
    return {name: text if isinstance(text, bytes) else text.encode() for name, text in texts.items()}
