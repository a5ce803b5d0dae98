"""Hostile prepared folders: changes to a good one, with the digests put right where they are."""

import hashlib
import json
import os
import struct

import numpy as np

SHARD = "train-00000.tfrecord"


def change_manifest(folder, change):
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def set_shard(folder, data):
    """Put other bytes in a shard, and their digest in the manifest."""
    (folder / SHARD).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    change_manifest(
        folder, lambda values: values["splits"]["train"]["shards"][0].update(sha256=digest)
    )


def set_examples(folder, **changes):
    """Write the training examples anew with a value of each exchanged; all digests are true."""
    from deeplens_tf.data.manifest import Manifest
    from deeplens_tf.data.shards import Example
    from tests.data.image_folders import write_split

    manifest = Manifest.load(folder)
    count = manifest.splits["train"].count
    images = np.random.default_rng(0).random((count, 16, 16, 1), np.float32)
    given = {"label": 0, "mass_ev": float("nan"), "file": "x", **changes}
    examples = [Example(given.get("image", image), *_rest(given)) for image in images]
    split = write_split(folder, "train", examples, manifest.classes)

    def change(values):
        values["splits"]["train"]["shards"][0].update(sha256=split.shards[0].sha256)

    change_manifest(folder, change)


def _rest(given):
    return given["label"], given["mass_ev"], given["file"]


def hollow_shard(folder, count=1000):
    """A shard of zeros, which is one of as many records of no length; its digest is true."""
    size = count * (4 * 16 * 16 + 16)
    os.truncate(folder / SHARD, 0)
    os.truncate(folder / SHARD, size)

    def change(values):
        shard = values["splits"]["train"]["shards"][0]
        shard.update(count=count, sha256=hashlib.sha256(bytes(size)).hexdigest())
        values["splits"]["train"].update(count=count, per_class={"a": count - 3, "b": 3})

    change_manifest(folder, change)


def name_twice(folder):
    def change(values):
        train = values["splits"]["train"]
        train.update(shards=2 * train["shards"], count=12, per_class={"a": 6, "b": 6})

    change_manifest(folder, change)


def flip_a_bit(folder):
    data = bytearray((folder / SHARD).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / SHARD).write_bytes(data)


def masked_checksum(data):
    """The checksum of TFRecords, bit by bit: a rotated CRC-32C, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record_of(length):
    """A record that says of itself, with a true checksum, that it is as long as that."""
    head = struct.pack("<Q", length)
    whole = head + struct.pack("<I", masked_checksum(head))
    return whole.ljust(6 * (4 * 16 * 16 + 16), b"\0")


def framed(record):
    """A record as TensorFlow writes it: its length and its bytes, each with a true checksum."""
    head = struct.pack("<Q", len(record))
    sums = [struct.pack("<I", masked_checksum(part)) for part in (head, record)]
    return head + sums[0] + record + sums[1]


def records_of(shard):
    records = []
    while shard:
        length = struct.unpack_from("<Q", shard)[0]
        records.append(shard[12 : 12 + length])
        shard = shard[16 + length :]
    return records


def index_of(folder):
    return folder / "train-index.csv"


def swap_labels(folder):
    text = index_of(folder).read_text()
    index_of(folder).write_text(
        text.replace(",0,", ",2,").replace(",1,", ",0,").replace(",2,", ",1,")
    )


def cut_index(folder):
    index_of(folder).write_text("".join(index_of(folder).read_text().splitlines(True)[:-1]))


def in_train(**changes):
    return lambda folder: change_manifest(folder, lambda v: v["splits"]["train"].update(changes))


def in_shard(**changes):
    return lambda folder: change_manifest(
        folder, lambda values: values["splits"]["train"]["shards"][0].update(changes)
    )


def in_manifest(**changes):
    return lambda folder: change_manifest(folder, lambda values: values.update(changes))


def with_margin(margin):
    return lambda folder: change_manifest(
        folder, lambda values: values["settings"].update(margin=margin)
    )


def manifest_of(text):
    return lambda folder: (folder / "manifest.json").write_text(text)


def piped_manifest(folder):
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


PREPARED = {
    "a bit flipped": (flip_a_bit, "changed since it was written"),
    "a shard that is gone": (lambda f: (f / SHARD).unlink(), "missing; prepare"),
    "a shard that is a pipe": (
        lambda f: ((f / SHARD).unlink(), os.mkfifo(f / SHARD)),
        "missing; prepare",
    ),
    "a shard elsewhere": (in_shard(file="../../etc/passwd"), "not the file name of a shard"),
    "a shard of no records": (lambda f: set_shard(f, b""), "its size is not that of 6"),
    "a shard of anything": (lambda f: set_shard(f, bytes(range(256)) * 40), "not the 6 records"),
    "a record of 1 EB": (lambda f: set_shard(f, record_of(2**60)), "not the 6 records"),
    "a record of negative length": (lambda f: set_shard(f, record_of(2**64 - 1)), "not the 6 rec"),
    "a shard of nothing": (hollow_shard, "not the 1000 records"),
    "a shard of 2 TB": (lambda f: os.truncate(f / SHARD, 2 * 10**12), "its size is not that of 6"),
    "a shard of 100,000 images": (lambda f: hollow_shard(f, 10**5), "its size is not that of"),
    "a shard that is named twice": (name_twice, "a shard is listed twice"),
    "a record too many": (
        lambda f: set_shard(f, (f / SHARD).read_bytes() + record_of(0)[:16]),
        "not the 6 records",
    ),
    "a record too few": (
        lambda f: set_shard(f, record_of(6 * (4 * 16 * 16 + 16) - 16)),
        "1 records, not the 6",
    ),
    "images of another shape": (
        lambda f: set_examples(f, image=np.zeros((17, 16, 1), np.float32)),
        "damaged train split",
    ),
    "images of no number": (
        lambda f: set_examples(f, image=np.full((16, 16, 1), np.nan, np.float32)),
        "pixel values outside of 0 to 1",
    ),
    "a label of no class": (lambda f: set_examples(f, label=10**9), "a label without a class"),
    "a mass below nothing": (lambda f: set_examples(f, mass_ev=-1.0), "a mass that is not a pos"),
    "labels exchanged in the index": (swap_labels, "the index lists other images"),
    "a truncated index": (cut_index, "not the table of 6 images"),
    "an index of one line": (
        lambda f: index_of(f).write_text("index,file" + "x" * 20_000),
        "a line of 10000 bytes or more",
    ),
    "a digest of an image that is none": (
        lambda f: index_of(f).write_text(index_of(f).read_text()[:-65] + "x" * 64 + "\n"),
        "a content is not SHA-256",
    ),
    "a count of less than nothing": (
        in_manifest(left_out={"duplicate": -(2**60)}),
        "left_out is not a valid number",
    ),
    "a band at no place": (in_manifest(bands_left_out=[2**70]), "bands_left_out is not a valid"),
    "no index": (lambda f: index_of(f).unlink(), "cannot be read"),
    "an index of 1 TB": (lambda f: os.truncate(index_of(f), 10**12), "too large for the table"),
    "an index that is a pipe": (
        lambda f: (index_of(f).unlink(), os.mkfifo(index_of(f))),
        "not a regular file",
    ),
    "more images than there are": (in_train(count=10**9), "count is not the sum over the shards"),
    "a class without images": (
        in_train(per_class={"a": 6, "b": 0}),
        "a class without training images",
    ),
    "images of 4 EB": (in_manifest(image_shape=[16, 16, 2**39]), "its size is not that of 6"),
    "a margin that is not there": (with_margin(1), "its size is not that of 6"),
    "a margin of 1 EB": (with_margin(10**9), "margin is not a whole number from 0 to image_size"),
    "a negative margin": (with_margin(-7), "margin is not a whole number from 0 to image_size"),
    "a margin of no number": (with_margin("\x1b[2J"), "margin is not a whole number"),
    "images of a negative size": (in_manifest(image_shape=[-16, -16, 1]), "image_shape is not"),
    "a manifest of 20 MB": (
        lambda f: manifest_of('{"format": "deeplens_tf prepared images"}' + " " * 20 * 2**20)(f),
        "larger than 8388608 bytes",
    ),
    "a manifest nested without end": (manifest_of('{"a":' * 10**5), "nested too deeply"),
    "a manifest that is a pipe": (piped_manifest, "no class folder and no image"),
    "a manifest of another version": (in_manifest(format_version="\x1b[2J"), "version '\\x1b[2J'"),
}
