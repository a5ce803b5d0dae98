"""Folders whose images show objects, and the pairs of an epoch by naive loops.

The oracle knows what the documents say: SplitMix64's keys of (seed, epoch, purpose), the order of
the shards, blocks of whole objects, two draws for each object.
"""

import numpy as np

from tests.data.image_folders import make_folder
from tests.test_augment_randomness import naive_fold_in, words_of

ORDER, PAIR = 3, 6  # purposes of a key
# How many images the objects of a class have; the 1 at the end has no row.
SIZES = (2, 1, 3, 2, 2, 1, 4, 2, 1)


def write_objects(root, objects, name="objects.csv"):
    """Write a table of the objects of images, by the images' names."""
    rows = [f"{file},{found}" for file, found in objects.items()]
    (root / name).write_text("\n".join(["file,object", *rows]) + "\n")


def make_objects(root, classes="abc", sizes=SIZES, start=0):
    """Write images of objects in class folders and `objects.csv`; return the object of each."""
    make_folder(root, dict.fromkeys(classes, sum(sizes)), start=start)
    objects = {}
    for name in classes:
        # Objects are mixed, so that nothing depends on the order of the files.
        order = np.random.default_rng(7).permutation(np.repeat(np.arange(len(sizes)), sizes))
        for i, found in enumerate(order):
            if found != len(sizes) - 1:
                objects[f"{name}/{name}_{i:04d}.npy"] = f"{name}{found}"
    write_objects(root, objects)
    return objects


def naive_objects(names):
    """Return lists of the indices of the images of each object, in the order of the first ones."""
    lists = []
    for i, name in enumerate(names):
        for indices in lists:
            if name and names[indices[0]] == name:
                indices.append(i)
                break
        else:
            lists.append([i])
    return lists


def naive_order(key, count):
    """Return the order of `count` things: that of the numbers of a key, read as signed."""
    signed = [word - 2**64 if word >= 2**63 else word for word in words_of(key, count)]
    return sorted(range(count), key=lambda i: signed[i])


def naive_key(seed, epoch, purpose):
    key = 0
    for number in (seed, purpose, epoch):
        key = naive_fold_in(key, number)
    return key


def naive_pair(indices, seed, epoch):
    """Return the two images of an object in an epoch, from the indices of its images."""
    count = len(indices)
    words = words_of(naive_fold_in(naive_key(seed, epoch, PAIR), indices[0]), 2)
    first = ((words[0] >> 32) * count) >> 32
    others = [i for i in range(first + 1, first + count)]  # around the end and on from 0
    second = others[((words[1] >> 32) * (count - 1)) >> 32] % count if others else first
    return indices[first], indices[second]


def naive_pairs(names, shard_counts, block_size, seed, epoch):
    """Return the pairs of an epoch in their order."""
    key, objects = naive_key(seed, epoch, ORDER), naive_objects(names)
    ends = np.cumsum(shard_counts)
    by_shard = [[] for _ in shard_counts]
    for indices in objects:
        by_shard[int(np.searchsorted(ends, indices[0], side="right"))].append(indices)
    blocks, read = {}, 0
    for shard in naive_order(naive_fold_in(key, 0), len(shard_counts)):
        for indices in by_shard[shard]:
            blocks.setdefault(read // block_size, []).append(indices)
            read += len(indices)
    pairs = []
    for number, block in sorted(blocks.items()):
        order = naive_order(naive_fold_in(key, number + 1), len(block))
        pairs += [naive_pair(block[i], seed, epoch) for i in order]
    return pairs
