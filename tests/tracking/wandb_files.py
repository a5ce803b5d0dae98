"""Reading what W&B keeps of an offline run: a log of its records, as in LevelDB."""

import json
import struct

BLOCK, HEAD = 32768, struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def messages(content):
    """Yield the messages of a `.wandb` file: fragments in blocks, each with sum, length, kind."""
    assert content[:4] == b":W&B"
    place, parts = 7, []
    while place + HEAD.size <= len(content):
        if BLOCK - place % BLOCK < HEAD.size:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = HEAD.unpack_from(content, place)
        place += HEAD.size
        parts.append(content[place : place + length])
        place += length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []


def records(run_folder):
    """Return the records of all commands of a run, by W&B's own definition of them."""
    from wandb.proto import wandb_internal_pb2

    files = sorted(run_folder.glob("wandb/offline-run-*/run-*.wandb"))
    return [
        wandb_internal_pb2.Record.FromString(each)
        for file in files
        for each in messages(file.read_bytes())
    ]


def name_of(item):
    return item.key or "/".join(item.nested_key)


def history(run_folder):
    """Return the rows in their order, without what W&B adds to each."""
    rows = [each.history for each in records(run_folder) if each.HasField("history")]
    values = [{name_of(it): json.loads(it.value_json) for it in row.item} for row in rows]
    return [{k: v for k, v in row.items() if not k.startswith("_")} for row in values]


def summary(run_folder):
    found = {}
    for each in records(run_folder):
        for item in each.summary.update:
            found[name_of(item)] = json.loads(item.value_json)
    return found


def runs(run_folder):
    """Return what is said of the run at the beginning of each command."""
    return [each.run for each in records(run_folder) if each.HasField("run")]


def config(run):
    return {name_of(item): json.loads(item.value_json) for item in run.config.update}
