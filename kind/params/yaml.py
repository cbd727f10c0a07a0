"""YAML files of params, read with care.  Imports no torch."""

from __future__ import annotations

from pathlib import Path

import yaml

from kind.errors import UserError
from kind.params.messages import nearest, show

MAX_KEYS = 10_000  # of one mapping, after merging; a few lines of YAML can merge into more than any memory holds
NOT_EXPERIMENTS = ("methods",)  # names in params/ that no experiment can have


def names_beside(path: Path) -> list[str]:
    """Names of the params files in the folder of this one."""
    return sorted(found.stem for found in path.parent.glob("*.y*ml") if found.stem not in NOT_EXPERIMENTS)


class _CarefulLoader(yaml.SafeLoader):
    """Safe loader that refuses a key given twice, which YAML would silently let win, and merges without end."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    problem = f"the key {key.value!r} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_KEYS:
            raise yaml.constructor.ConstructorError(None, None, "merges into too many keys", node.start_mark)


def read_yaml(path: Path) -> dict:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _CarefulLoader)  # noqa: S506  a SafeLoader
    except FileNotFoundError:
        names = names_beside(path)
        hint = f"params files in {path.parent}: {', '.join(names)}" if names else "the experiments are in params/"
        raise UserError(f"{path}: no such params file{nearest(path.stem, names)}", hint=hint)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}; save the file as UTF-8")
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_yaml_problem(error)}")
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested too deeply")
    except (ValueError, OverflowError, TypeError, AttributeError) as error:  # PyYAML's own, for 2020-99-99 or !!int x
        raise UserError(f"{path}: not valid YAML: a value cannot be read: {error}")
    if content is None:
        raise UserError(f"{path}: the file is empty", hint="params/smoke.yaml shows what a params file holds")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of sections, found {show(content)}")
    return content


def _yaml_problem(error: yaml.YAMLError) -> str:
    """Where and what, in one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    if "'\\t'" in problem:
        problem = "a tab where YAML wants spaces"
    elif "python/" in problem:
        problem += " (params files hold plain values only)"
    context = getattr(error, "context", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{f' ({context})' if context else ''}"
