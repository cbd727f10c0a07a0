"""Get weights that others published; where to and from is said for each by --list.

Files come to FOLDER/NAME, whole and verified, or not at all.  What has come of a file that is cut off is kept, and the
next fetch goes on there.  The first fetch of a file records its size and sha256 in weights.lock, later ones must find
the same.  Snakemake runs this where an experiment needs weights that neither its params nor a variable name.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kind import weights_lock
from kind.download import NotHad, copy, discard, download, held, part_of
from kind.errors import UserError
from kind.params.messages import nearest
from kind.weights import FOLDER, LOCK, WEIGHTS, File, Weights

EXAMPLE = "python -m kind fetch inception"
KNOWN = ", ".join(WEIGHTS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {KNOWN}")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="PLACE",
        help="take the files of one NAME from here: a folder, or an address that the files' names are put behind "
        "(a mirror: https://MIRROR/facebook/dinov2-large/resolve/main)",
    )
    parser.add_argument(
        "--to", metavar="FOLDER", default=str(FOLDER), help="files come to FOLDER/NAME (default: %(default)s)"
    )
    parser.add_argument("--only", metavar="FILE", help="this file of one NAME, for Snakemake: a job makes a file")
    parser.add_argument("--list", action="store_true", help="say what there is, where it is found here, and end")


def run(arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        if name not in WEIGHTS:
            raise UserError(f"no weights {name!r}{nearest(name, WEIGHTS)}", hint=f"there are {KNOWN}")
    chosen = [WEIGHTS[name] for name in dict.fromkeys(arguments.names)]
    if arguments.list:
        print("\n\n".join(describe(weights) for weights in chosen or WEIGHTS.values()))
        return
    if not chosen:
        raise UserError("which weights?", hint=f"name one or more of {KNOWN}, or look at them with --list")
    check_choice(chosen, arguments.source, arguments.only)
    for weights in chosen:
        fetch(weights, Path(arguments.to), arguments.source, arguments.only)


def check_choice(chosen: list[Weights], source: str | None, only: str | None) -> None:
    """Raises UserError where --from or --only does not fit the names, or nothing can come from there."""
    for option, given in (("--from", source), ("--only", only)):
        if given is not None and len(chosen) > 1:
            names = ", ".join(weights.name for weights in chosen)
            raise UserError(f"{option} {given}: is for one NAME, but there are {names}", hint="fetch them one by one")
    files = [file.name for file in chosen[0].files]
    if only not in (None, *files):
        raise UserError(
            f"--only {only}: no file of {chosen[0].name}{nearest(only, files)}", hint=f"its files: {', '.join(files)}"
        )
    scheme, separator, _ = (source or "").partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise UserError(
            f"--from {source}: files come from http:// and https:// addresses and from folders",
            hint="give one of these",
        )


def describe(weights: Weights) -> str:
    place = weights.place()
    said_by = "fetched" if place.said_by is None else f"by {place.said_by}"
    lines = [
        f"{weights.name}: {weights.title}",
        f"for: {weights.use}",
        f"licence: {weights.licence}",
        *(f"from: {file.url}" for file in weights.files),
        f"variable: {weights.variable}" + (f"; key in the params: {weights.key}" if weights.key else ""),
        f"here: {place.problem() or f'{place.path} ({said_by})'}",
    ]
    return "\n  ".join(lines)


def fetch(weights: Weights, root: Path, source: str | None, only: str | None) -> None:
    place = weights.fetched(root)
    for file, path in zip(weights.files, place.files, strict=True):
        if only not in (None, file.name):
            continue
        if path.is_file():
            if problem := weights_lock.problem(weights.name, file, path):
                raise UserError(f"{path}: {problem}", hint="delete it and run the same command again")
            print(f"{weights.name}: {path} is there already", flush=True)
        else:
            fetch_file(weights, file, path, source)
        if weights_lock.record(weights.name, file, path):
            print(f"{weights.name}: {file.name} is in {LOCK} from now on; commit it", flush=True)
    if root != FOLDER:
        print(f"{weights.name}: to use it, set {weights.variable}={place.path}", flush=True)


def fetch_file(weights: Weights, file: File, path: Path, source: str | None) -> None:
    """One file that is not there, whole and verified, or not at all."""
    part, origin = part_of(path), origin_of(file, source)
    with held(part):
        try:
            bring(origin, part, f"{weights.name} {file.name}")
        except NotHad as error:
            raise UserError(f"{error}", hint=f"{weights.ways}; --from takes the files from a folder or a mirror")
        if problem := weights_lock.problem(weights.name, file, part):
            discard(part)
            raise UserError(
                f"{origin}: not the expected {file.name}: {problem}",
                hint=f"nothing of it was kept; get {file.url}, with --from if need be.  Where its publisher has "
                f"changed it and you want the new one, delete its entry in {LOCK}",
            )
        os.replace(part, path)
        discard(part)
    print(f"{weights.name}: {path} from {origin}", flush=True)


def origin_of(file: File, source: str | None) -> str:
    if source is None:
        return file.url
    return f"{source.rstrip('/')}/{file.name}" if "://" in source else str(Path(source) / file.name)


def bring(origin: str, part: Path, label: str) -> None:
    if "://" in origin:
        download(origin, part, label)
    else:
        copy(Path(origin), part, label)
