"""`python -m ada_trainer checkpoints list|verify|prune|copy`: for people who look after a store.

    list    --store URI [--stage NAME]                        committed checkpoints and abandoned uploads
    verify  --store URI [--stage NAME]                        read every object and compare its digest; 1 if one differs
    prune   --store URI --stage NAME [--last N] [--every F] [--yes]   what retention would delete; with --yes, delete it
    copy    --store URI --prefix checkpoints/S/F-A --to URI   to another store, verified on the way

The store is the experiment's: ADA_STORE/NAMESPACE/NAME. Credentials come from the environment. `--json` for programs.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ada_api.operations import Retention
from ada_curriculum.manifest import (
    CheckpointError,
    StoredCheckpoint,
    copy_checkpoint,
    list_checkpoints,
    read_checkpoint,
    verify,
)
from ada_curriculum.retention import choose_superfluous, delete_checkpoint, dependencies, find_abandoned
from ada_curriculum.store import ObjectStore, StoreError, open_store, walk
from ada_trainer.exits import EXIT_DONE, EXIT_TROUBLE


@dataclass(frozen=True)
class Answer:
    """What a command found: rows for a table or for JSON, and whether all is well."""

    rows: list[dict[str, Any]]
    well: bool = True


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns 0, or 1 if something is wrong with what was asked for."""
    options = _parser().parse_args(arguments)
    try:
        answer = _COMMANDS[options.command](options, open_store(options.store))
    except (StoreError, CheckpointError) as error:
        sys.stderr.write(f"ada_trainer checkpoints: {error}\n")
        return EXIT_TROUBLE
    sys.stdout.write(json.dumps(answer.rows, indent=1) + "\n" if options.json else table(answer.rows))
    return EXIT_DONE if answer.well else EXIT_TROUBLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ada_trainer checkpoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in _COMMANDS:
        command = commands.add_parser(name)
        command.add_argument("--store", required=True, metavar="URI", help="the experiment's store")
        command.add_argument("--json", action="store_true", help="print JSON")
        if name in ("list", "verify"):
            command.add_argument("--stage", help="this stage alone")
    prune = commands.choices["prune"]
    prune.add_argument("--stage", required=True)
    prune.add_argument("--last", type=int, default=2, help="keep the last N")
    prune.add_argument("--every", type=int, help="and the first of every so many frames")
    prune.add_argument("--no-best", action="store_true", help="do not keep the one of the best score")
    prune.add_argument("--yes", action="store_true", help="delete; without it only say what would be deleted")
    copy = commands.choices["copy"]
    copy.add_argument("--prefix", required=True, help="of the checkpoint below the store, as `list` prints it")
    copy.add_argument("--digest", help="copy only if the checkpoint has this digest")
    copy.add_argument("--to", required=True, metavar="URI", help="the store to copy into")
    return parser


def stages(store: ObjectStore) -> list[str]:
    """Return the stages that have checkpoints or parts of one."""
    parts = (info.key.split("/") for info in walk(store, "checkpoints/"))
    return sorted({part[1] for part in parts if len(part) > 2})


def _list(options: argparse.Namespace, store: ObjectStore) -> Answer:
    rows = []
    for stage in [options.stage] if options.stage else stages(store):
        rows += [describe(checkpoint) for checkpoint in list_checkpoints(store, stage)]
        rows += [{"prefix": prefix, "state": "abandoned"} for prefix in find_abandoned(store, stage, time.time(), 0.0)]
    return Answer(rows)


def _verify(options: argparse.Namespace, store: ObjectStore) -> Answer:
    rows, well = [], True
    for stage in [options.stage] if options.stage else stages(store):
        for checkpoint in list_checkpoints(store, stage):
            row = describe(checkpoint)
            try:
                verify(store, checkpoint)
            except CheckpointError as error:
                well = False
                row |= {"state": "damaged", "error": str(error)}
            rows.append(row)
    return Answer(rows, well)


def _prune(options: argparse.Namespace, store: ObjectStore) -> Answer:
    retention = Retention(last=options.last, every=options.every, best=not options.no_best)
    depended_on: set[str] = set()
    for stage in stages(store):
        depended_on |= dependencies(list_checkpoints(store, stage))
    superfluous = choose_superfluous(list_checkpoints(store, options.stage), retention, depended_on=depended_on)
    for checkpoint in superfluous if options.yes else []:
        delete_checkpoint(store, checkpoint)
    state = "deleted" if options.yes else "superfluous"
    return Answer([{**describe(checkpoint), "state": state} for checkpoint in superfluous])


def _copy(options: argparse.Namespace, store: ObjectStore) -> Answer:
    checkpoint = read_checkpoint(store, options.prefix.rstrip("/"), options.digest)
    with tempfile.TemporaryDirectory(prefix="ada-copy-") as folder:
        uri = copy_checkpoint(store, checkpoint, open_store(options.to), Path(folder))
    return Answer([{**describe(checkpoint), "state": "copied", "uri": uri}])


_COMMANDS = {"list": _list, "verify": _verify, "prune": _prune, "copy": _copy}


def describe(checkpoint: StoredCheckpoint) -> dict[str, Any]:
    """Return what a person wants to know of a checkpoint."""
    manifest = checkpoint.manifest
    return {
        "prefix": checkpoint.prefix,
        "state": "committed",
        "frames": manifest.frames,
        "updates": manifest.updates,
        "generation": manifest.generation,
        "score": manifest.score,
        "bytes": sum(entry.size for entry in manifest.objects),
        "time": manifest.time,
        "digest": checkpoint.digest,
        "uri": checkpoint.uri,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as aligned text."""
    columns = ("prefix", "state", "frames", "updates", "generation", "score", "bytes", "digest")
    cells = [columns, *[tuple(_cell(row.get(column)) for column in columns) for row in rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    errors = [f"{row['prefix']}: {row['error']}" for row in rows if "error" in row]
    return "\n".join([*lines, *errors]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
