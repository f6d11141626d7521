"""Reads what wandb wrote to disk: a log of blocks, as LevelDB's, of records in protobuf."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER, BEGIN = 32_768, 7, 7
"""Bytes of a block, of the header of each part, and of the file's own beginning."""


def offline_runs(folder: Path) -> list[dict[str, Any]]:
    """Returns each run below a folder: id, name, group, job type, config, history by step, summary and exit code."""
    return sorted((_run(path) for path in folder.glob("offline-run-*/run-*.wandb")), key=lambda run: run["name"])


def _run(path: Path) -> dict[str, Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, Any] = {"config": {}, "history": {}, "summary": {}, "exit": None}
    for data in _records(path.read_bytes()):
        record = Record.FromString(data)
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                found |= {"id": run.run_id, "name": run.display_name, "group": run.run_group, "task": run.job_type}
                found |= {"project": run.project, "tags": list(run.tags)}
                found["config"] |= _values(run.config.update)
            case "config":
                found["config"] |= _values(record.config.update)
            case "history":
                values = _values(record.history.item)
                found["history"].setdefault(record.history.step.num, {}).update(values)
            case "summary":
                found["summary"] |= _values(record.summary.update)
            case "exit":
                found["exit"] = record.exit.exit_code
    return found


def _values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[bytes]:
    at, parts = BEGIN, []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # the rest of a block is too short for a header
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts.append(data[at + HEADER : at + HEADER + length])
        at += HEADER + length
        if kind in {1, 4}:  # a whole record, or its last part
            yield b"".join(parts)
            parts = []
