"""Hostile model files, made from a good one: its recipe or its weights are changed."""

import copy
import io
import json
import struct
import zipfile

import h5py
import numpy as np

from tests.hostile.arrays import SENTINEL, TOUCH

WEIGHTS = "model.weights.h5"


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def with_packed(members, name, data):
    """The file with one member other than it was, and packed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for key, value in {**members, name: data}.items():
            method = zipfile.ZIP_DEFLATED if key == name else zipfile.ZIP_STORED
            archive.writestr(key, value, method)
    return stream.getvalue()


def claiming(data, name, size):
    """The archive whose table of contents says that a member takes and holds so many bytes."""
    data = bytearray(data)
    entry = data.rindex(name.encode()) - 46
    struct.pack_into("<2L", data, entry + 20, size, size)
    return bytes(data)


def write_hollow(path, members, size):
    """Weights of any size that take no space on the disk, in an archive that holds together."""
    whole = claiming(packed({**members, WEIGHTS: b""}), WEIGHTS, size)
    start = whole.index(b"PK\1\2")
    end = bytearray(whole[start:])
    struct.pack_into("<L", end, len(end) - 6, start + size)
    with path.open("wb") as stream:
        stream.write(whole[:start])
        stream.seek(start + size)
        stream.write(end)


def with_recipe(members, change):
    """The file with its recipe changed in place by a function."""
    recipe = json.loads(members["config.json"])
    change(recipe)
    return packed({**members, "config.json": json.dumps(recipe).encode()})


def with_head(members, head):
    return with_recipe(members, lambda recipe: recipe["config"].update(head=copy.deepcopy(head)))


def with_encoder(members, **options):
    return with_recipe(
        members, lambda recipe: recipe["config"]["encoder"]["config"].update(options)
    )


def with_weights(members, change):
    """The file with its weights changed by a function of the open HDF5 file."""
    stream = io.BytesIO(members[WEIGHTS])
    with h5py.File(stream, "r+") as file:
        change(file)
    return packed({**members, WEIGHTS: stream.getvalue()})


def keras_object(kind, module="keras.layers", registered=None, **config):
    return {"module": module, "class_name": kind, "config": config, "registered_name": registered}


def calls(module, name):
    """A layer that would call any function when it is used."""
    function = {"module": module, "class_name": "function", "config": name}
    return keras_object("Lambda", name="x", function={**function, "registered_name": "function"})


LAMBDA = keras_object(
    "Lambda", name="x", function={"class_name": "__lambda__", "config": {"value": TOUCH}}
)


def storage_elsewhere(file):
    file.create_dataset("x", (64,), "u1", external=[("/etc/passwd", 0, 64)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("x", layout)


def flipped(members):
    data = bytearray(packed(members))
    data[data.index(members[WEIGHTS]) + len(members[WEIGHTS]) // 2] ^= 1
    return bytes(data)


def other_width(members):
    """Weights of one layer in another shape than the recipe makes it."""

    def change(file):
        del file["head/vars/0"]
        file["head/vars/0"] = np.zeros((5, 7), "f4")

    return with_weights(members, change)


def old_weights(change):
    """A file in Keras 2's format, changed by a function."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense"])
        change(file)
    return stream.getvalue()


def deep_transformer(file, depth=257):
    """As many arrays as say how large each of the blocks is."""
    file["embedding/kernel:0"] = np.ones((8, 8, 1, 1), "f4")
    file["pos_embedding:0"] = np.ones((1, 5, 1), "f4")
    for i in range(depth):
        file[f"encoderblock_{i}/Dense_0/kernel:0"] = np.ones((1, 1), "f4")
        file[f"encoderblock_{i}/Dense_1/kernel:0"] = np.ones((1, 10), "f4")


def in_one_place(count=9):
    """Arrays of 400 kB that all claim the place of the first."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense"])
        arrays = [file.create_dataset(f"{i}", data=np.ones(7000 + i, "f4")) for i in range(count)]
        places = [(array.id.get_offset(), array.nbytes) for array in arrays]
        first = file.create_dataset("x", data=np.ones(10**5, "f4")).id.get_offset()
    data = stream.getvalue()
    for i, place in enumerate(places):
        data = data.replace(struct.pack("<2Q", *place), struct.pack("<2Q", first, 4 * 10**5))
        data = data.replace(struct.pack("<Q", 7000 + i), struct.pack("<Q", 10**5))
    return data


def write_hollow_weights(path, width=4096, mlp_width=16384):
    """Keras 2's weights of 800 MB that take no space on the disk: a part of a transformer."""
    block = "encoderblock_0"
    shapes = {
        "embedding/kernel:0": (8, 8, 1, width),
        "posembed_input/pos_embedding:0": (1, 5, width),
        f"{block}/Dense_0/kernel:0": (width, mlp_width),
        f"{block}/Dense_1/kernel:0": (mlp_width, width),
        f"{block}/query/kernel:0": (4 * width, width),
    }
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"model"])
        for name, shape in shapes.items():
            group = file.require_group(name.rpartition("/")[0])
            space = h5py.h5s.create_simple(shape)
            leaf = name.rpartition("/")[2].encode()
            h5py.h5d.create(group.id, leaf, h5py.h5t.IEEE_F32LE, space, plan)


# Name -> (how a file of Keras 2's weights is made, what the line says).
OLD_WEIGHTS = {
    "text": (lambda: b"weights", "not an HDF5 file"),
    "another network": (
        lambda: old_weights(lambda f: f.update({"dense/kernel:0": np.ones((3, 2), "f4")})),
        "neither the original's ViT nor its ResNet50",
    ),
    "arrays elsewhere": (
        lambda: old_weights(
            lambda f: f.create_dataset("x", (64,), "f4", external=[("/etc/passwd", 0, 256)])
        ),
        "x is stored in another file",
    ),
    "an array of four TB": (
        lambda: old_weights(lambda f: f.create_dataset("x", (10**12,), "f4")),
        "arrays of at least 4000000000000 bytes in a file of",
    ),
    "arrays in one place": (in_one_place, "arrays of at least 800000 bytes in a file of"),
    "groups without end": (
        lambda: old_weights(lambda f: f.create_group("x/" * 1000)),
        "not a tree of at most 50000 groups and arrays",
    ),
    "a name without end": (
        lambda: old_weights(lambda f: f.update({"dense_" + "9" * 5000: np.ones(3, "f4")})),
        "not a tree of at most 50000 groups and arrays",
    ),
    "half-precision numbers": (
        lambda: old_weights(lambda f: f.update(x=np.ones(3, "f2"))),
        "contains float16",
    ),
    "257 blocks": (
        lambda: old_weights(deep_transformer),
        "257 blocks, at most 256 are converted",
    ),
    "a name to obey": (
        lambda: old_weights(lambda f: f.update({"\x1b[2J": np.ones(3)})),
        "\\x1b[2J",
    ),
}

# Name -> (how the file is made from a good one's members, what the line says).
MODELS = {
    "no archive": (lambda m: b"text", "not an archive"),
    "weights in Keras's old format": (lambda m: m[WEIGHTS], "not an archive"),
    "a truncated file": (lambda m: packed(m)[:-100], "not an archive"),
    "no weights": (lambda m: packed({"config.json": m["config.json"]}), "not one model"),
    "a member that climbs out": (lambda m: packed({**m, "../x": b""}), "an archive of 4 members"),
    "another member that climbs out": (
        lambda m: packed({"../x": b"", **{k: m[k] for k in ("config.json", WEIGHTS)}}),
        "contains ../x, config.json, model.weights.h5, not one model",
    ),
    "a packed recipe of 50 MB": (
        lambda m: with_packed(m, "config.json", b" " * 50 * 2**20),
        "config.json is compressed, which Keras never does",
    ),
    "packed weights of 10 MB": (
        lambda m: with_packed(m, WEIGHTS, bytes(10 * 2**20)),
        "model.weights.h5 is compressed, which Keras never does",
    ),
    "packed weights that say they are not": (
        lambda m: claiming(with_packed(m, WEIGHTS, bytes(2**20)), WEIGHTS, 2**20),
        "model.weights.h5 is compressed, which Keras never does",
    ),
    "weights of more bytes than the file": (
        lambda m: claiming(packed(m), WEIGHTS, 700 * 2**20),
        "model.weights.h5 claims 734003200 bytes, the archive has",
    ),
    "an unpacked recipe of 50 MB": (
        lambda m: packed({**m, "config.json": b" " * 50 * 2**20}),
        "config.json has 52428800 bytes, the maximum is",
    ),
    "a recipe that is no JSON": (lambda m: packed({**m, "config.json": b"{"}), "is not JSON"),
    "a recipe nested without end": (
        lambda m: packed({**m, "config.json": b"[" * 10**6}),
        "is not JSON",
    ),
    "a Lambda layer for a head": (lambda m: with_head(m, LAMBDA), "config.json requests Lambda"),
    "a call of keras.utils.get_file": (
        lambda m: with_head(m, calls("keras.utils", "get_file")),
        "config.json requests Lambda",
    ),
    "a call that unlocks code": (
        lambda m: with_head(m, calls("keras.config", "enable_unsafe_deserialization")),
        "config.json requests Lambda",
    ),
    "a class of another module": (
        lambda m: with_head(m, keras_object("Popen", "subprocess", args=f"touch {SENTINEL}")),
        "config.json requests subprocess.Popen",
    ),
    "a module under a known name": (
        lambda m: with_head(m, keras_object("Dense", "subprocess", units=3)),
        "config.json requests subprocess.Dense",
    ),
    "a known class under another name": (
        lambda m: with_head(m, keras_object("Dense", registered="deeplens_tf>MassHead", units=3)),
        "config.json requests Dense",
    ),
    "a saved model of TensorFlow": (
        lambda m: with_head(m, keras_object("TFSMLayer", filepath="/tmp", name="x")),
        "config.json requests TFSMLayer",
    ),
    "a layer that reads a file": (
        lambda m: with_head(m, keras_object("StringLookup", vocabulary="/etc/passwd")),
        "config.json requests StringLookup",
    ),
    "an object of eight TB": (
        lambda m: with_encoder(m, x=keras_object("__numpy__", value=[0], dtype="f8")),
        "config.json requests __numpy__",
    ),
    "a part that is compiled": (
        lambda m: with_recipe(
            m, lambda r: r["config"]["encoder"].update(compile_config={"optimizer": "adam"})
        ),
        "config.json requests a compiled part",
    ),
    "a gigantic network": (
        lambda m: with_encoder(m, width=10**6, mlp_width=10**6, heads=1),
        "config.json describes a network of 2.4e+13 weights",
    ),
    "a gigantic image": (lambda m: with_encoder(m, image_shape=[10**9, 8, 1]), "a size of 10000"),
    "numbers of eight bytes": (lambda m: with_encoder(m, dtype="float64"), "the type float64"),
    "a policy of eight bytes": (
        lambda m: with_encoder(m, dtype=keras_object("DTypePolicy", "keras", name="float64")),
        "the type float64",
    ),
    "a million blocks": (
        lambda m: with_encoder(m, depth=10**6),
        "config.json requests 1000000 blocks",
    ),
    "a width that is no number": (
        lambda m: with_encoder(m, width="96"),
        "config.json requests a size of '96'",
    ),
    "a gigantic head": (
        lambda m: with_recipe(m, lambda r: r["config"]["head"]["config"].update(units=10**9)),
        "config.json describes a network of 9.7e+10 weights",
    ),
    "a gigantic addition to the head": (
        lambda m: with_recipe(m, lambda r: r["config"]["head"]["config"].update(lora_rank=10**9)),
        "config.json describes a network of 9.8e+10 weights",
    ),
    "an encoder that is not built": (
        lambda m: with_recipe(m, lambda r: r["config"]["encoder"].pop("build_config")),
        "does not build the encoder, so its weights are not read",
    ),
    "a network of another shape": (other_width, "not a model that can be loaded safely"),
    "a link out of the weights": (
        lambda m: with_weights(m, lambda f: f.update(x=h5py.ExternalLink("/etc/passwd", "/"))),
        "x is a link to another object",
    ),
    "a link within the weights": (
        lambda m: with_weights(m, lambda f: f.update(x=h5py.SoftLink("/head"))),
        "x is a link to another object",
    ),
    "weights stored elsewhere": (
        lambda m: with_weights(m, storage_elsewhere),
        "x is stored in another file",
    ),
    "weights put together elsewhere": (
        lambda m: with_weights(m, virtual),
        "x is stored in another file",
    ),
    "weights of four TB": (
        lambda m: with_weights(m, lambda f: f.create_dataset("x", (10**12,), "f4")),
        "arrays of at least 4000",
    ),
    "packed weights": (
        lambda m: with_weights(
            m, lambda f: f.create_dataset("x", (10**4, 10**4), "f4", compression="gzip")
        ),
        "x is compressed",
    ),
    "weights that hold themselves": (
        lambda m: with_weights(m, lambda f: f.update(x=f["/"])),
        "x is a link to another object",
    ),
    "weights nested without end": (
        lambda m: with_weights(m, lambda f: f.create_group("x/" * 40)),
        "not a tree of at most 50000 groups and arrays",
    ),
    "weights of a name without end": (
        lambda m: with_weights(m, lambda f: f.create_group("x" * 60_000)),
        "not a tree of at most 50000 groups and arrays",
    ),
    "truncated weights": (
        lambda m: packed({**m, WEIGHTS: m[WEIGHTS][:-5000]}),
        "model.weights.h5 is damaged",
    ),
    "a bit flipped in the weights": (flipped, "Bad CRC-32"),
}
