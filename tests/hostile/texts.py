"""Hostile configurations and reports."""

import json

from tests.hostile.arrays import SENTINEL

LAUGHS = "".join(
    f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10) if i else 'ha'}]\n" for i in range(12)
)

# Text of a configuration -> what the line says.
CONFIGS = {
    "a billion laughs": (LAUGHS, "a reference (*) in line 2"),
    "a value that holds itself": ("seed: &a [*a]", "a reference (*) in line 1"),
    "a merge": ("<<: &a {seed: 1}\ndata: *a", "a reference (*)"),
    "a tag that runs": (f"seed: !!python/object/apply:os.system ['touch {SENTINEL}']", "not YAML"),
    "a tag that makes": ("seed: !!python/object/new:os.system [x]", "not YAML"),
    "a key twice": ("seed: 1\nseed: 2", "the key seed twice in line 2"),
    "brackets without end": ("seed: " + "[" * 50_000, "not YAML"),
    "a file of 2 MB": ("#" * 2_000_000, "larger than 100000 bytes"),
    "a number without end": (
        "seed: 0x" + "f" * 90_000,
        "a number of more than 400 digits in line 1",
    ),
    "a number in base sixty": (
        "seed: 1" + ":1" * 40_000,
        "a number of more than 400 digits in line 1",
    ),
    "a number beyond any count": ("train: {epochs: 1" + "0" * 300 + "}", "at most 2147483647"),
    "a gigantic layer": ("encoder: {name: resnet50, top_width: 1000000000}", "at most 1024"),
    "bytes": ("\0\1\2", "not YAML"),
    "an escape sequence": ('"\\e[31mseed": 1', "unknown configuration key \\x1b[31mseed"),
    "a key of 90 kB": ("? " + "k" * 90_000 + "\n: 1", "unknown configuration key kkk"),
    "a list": ("[1, 2]", "a configuration is a mapping"),
}

SCORED = {
    "split": "test",
    "test_set": "a" * 64,
    "head": "classification",
    "macro_auc": 0.9,
    "accuracy": 0.8,
    "intervals_95": {"macro_auc": [0.8, 0.95], "accuracy": [0.7, 0.9]},
}
FACTS = {"encoder": {"method": "contrastive", "pretexts": ["flip"]}, "labels_used": 90}


def scored(**changes):
    return json.dumps({**SCORED, **changes})


def facts(**origin):
    return json.dumps({"encoder": {**FACTS["encoder"], **origin}, "labels_used": 90})


DAMAGED = "evaluated by another version or damaged"

# Text of metrics.json, of environment.json -> exit code, what the line says.
REPORTS = {
    "no JSON": ("{", facts(), 2, DAMAGED),
    "brackets without end": ("[" * 10**6, facts(), 2, "nested too deeply"),
    "a report of 20 MB": ("{}" + " " * 20 * 2**20, facts(), 2, "larger than 4194304 bytes"),
    "a report of the bytes 0 to 255": (bytes(range(256)), facts(), 2, "not JSON"),
    "a number of a million digits": ('{"split": ' + "9" * 10**6 + "}", facts(), 2, "not JSON"),
    "a score that is a text": (scored(macro_auc="high"), facts(), 2, "expected a score, found"),
    "an infinite score": (
        scored(macro_auc=float("inf")),
        facts(),
        2,
        "expected a score, found inf",
    ),
    "a score of 1e308": (scored(macro_auc=1e308), facts(), 2, "expected a score, found"),
    "a score that is a list": (scored(macro_auc=[0.9]), facts(), 2, "expected a score, found"),
    "an interval of one number": (scored(intervals_95={"macro_auc": [1]}), facts(), 2, DAMAGED),
    "intervals that are a list": (scored(intervals_95=[1, 2]), facts(), 2, DAMAGED),
    "a test set that is a number": (scored(test_set=5), facts(), 2, "expected a name, found"),
    "an unknown head": (scored(head="tail"), facts(), 2, DAMAGED),
    "an environment that is a list": (scored(), "[]", 2, "not a JSON object"),
    "an environment without an encoder": (scored(), "{}", 2, DAMAGED),
    "a method of 1 MB": (scored(), facts(method="x" * 10**6), 2, "expected a name, found"),
    "labels that are a text": (scored(), facts()[:-3] + '"x"}', 2, "expected a number of labels"),
    "a method that a terminal obeys": (scored(), facts(method="\x1b[2J\r\n|"), 0, ""),
    "a method that is no formula": (scored(), facts(method="$\\frac{$"), 0, ""),
}
