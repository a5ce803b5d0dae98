"""Put the encoder of a row into the package: `python -m results.ship object clean NAME`.

It copies the run of the row's first seed and writes its model card. Without arguments, it writes
the cards of the shipped encoders again, from their folders and the tables.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import deeplens_tf as dl
from deeplens_tf.config import load_config, save_config
from deeplens_tf.files.shipped import CARD, SHIPPED, card_head, sha256_of, shipped_encoders
from deeplens_tf.models.encoders import feature_shape
from deeplens_tf.probes.sklearn_probes import INVERSE_PENALTY
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.runs.seen_images import SEEN_IMAGES_FILE
from deeplens_tf.simulation import priors
from results.finetunings import row_folder
from results.row_steps import TEST_IMAGES, TEST_SEED, TRAIN_SEED
from results.rows import ROWS, SKIES, Row, Sky
from results.store import UNTRAINED

SEED = 0
HERE = Path(__file__).parent
FROZEN = ("probe", "ridge")  # how the names of readouts of frozen features begin
# The readout that a test repeats with images of its own.
TESTED, TESTED_FRACTION = "probe, 10 %", 0.1
NOISE = {False: "without noise", True: "with the instrument's noise"}
# Of the two priors of the lens: what the images have, and what was not tested.
HALOS = {
    "published": (
        "DeepLenseSim's. One halo of fixed mass, ellipticity and shear",
        "halos of other mass, ellipticity or shear: all training images share one",
    ),
    "wide": (
        "a halo of its own for each image, of 10^11.85 to 10^12.1 solar masses, with components of "
        "ellipticity and shear that are normal around 0 with 0.1 and 0.04 (`--lens-prior wide`),",
        "halos beyond this prior",
    ),
}
ROWS_BY_NAME = {row.name: row for row in ROWS}
SKIES_BY_NAME = {sky.name: sky for sky in SKIES}


def main(argv: Sequence[str]) -> None:
    """Ship an encoder, or write the cards again."""
    parser = argparse.ArgumentParser(prog="python -m results.ship", description=__doc__)
    without_labels = [row.name for row in ROWS if row.config and not row.plugin]
    parser.add_argument("row", nargs="?", choices=without_labels)
    parser.add_argument("sky", nargs="?", choices=SKIES_BY_NAME)
    parser.add_argument("name", nargs="?")
    arguments = parser.parse_args(argv)
    if arguments.row is None:
        for path in shipped_encoders().values():
            path.write_text(card_again(path), encoding="utf-8")
        return
    if arguments.name is None or not arguments.name.isidentifier():
        parser.error("give ROW SKY NAME; the name is an identifier")
    ship(ROWS_BY_NAME[arguments.row], SKIES_BY_NAME[arguments.sky], SHIPPED / arguments.name)


def ship(row: Row, sky: Sky, folder: Path) -> None:
    """Write the folder of a shipped encoder: a run folder without the paths of its machine.

    Its data folder is the default one, which a fine-tuning takes where it is told none.
    """
    run, shipped = Run(row_folder(row, sky, SEED) / "pretrain"), Run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in (run.encoder, run.folder / SEEN_IMAGES_FILE):
        shutil.copyfile(path, folder / path.name)
    config = run.load_config()
    data = replace(config.data, path=load_config("contrastive").data.path)
    save_config(replace(config, data=data), shipped.config)
    record = json.loads(run.folder.with_suffix(".json").read_text())
    facts = {key: value for key, value in run.facts().items() if key != "data_path"}
    if "encoder" in facts:  # known by its name, and not by its place on this machine
        facts["encoder"] = {**facts["encoder"], "path": config.pretrain.encoder}
    shipped.environment.unlink(missing_ok=True)
    shipped.add_facts({**facts, "processor_seconds": record["processor_seconds"]})
    (folder / CARD).write_text(card(folder, row, sky), encoding="utf-8")


def card_again(path: Path) -> str:
    """Return the model card of a shipped encoder as its folder and the tables give it now."""
    study = card_head(path)["study"]
    return card(path.parent, ROWS_BY_NAME[study["row"]], SKIES_BY_NAME[study["sky"]])


def card(folder: Path, row: Row, sky: Sky) -> str:
    """Return the model card of an encoder."""
    scores = _scores(row, sky)
    head = yaml.safe_dump(_head(folder, row, sky, scores), sort_keys=False)
    values = _of_study(row, sky) | _of_network(folder) | _of_training(Run(folder))
    text = (HERE / "card.md").read_text(encoding="utf-8")
    page = text.format(name=folder.name, scores=_table(scores, row), **values)
    return f"---\n{head}---\n\n{page}"


def _scores(row: Row, sky: Sky) -> pd.DataFrame:
    """Return the scores of the frozen features of a row and of the untrained network.

    Raises:
        SystemExit: the table has none.
    """
    table = pd.read_csv(HERE / f"{sky.name}.csv")
    frozen = table["readout"].str.startswith(FROZEN) & (table["seed"] == SEED)
    found = table[frozen & table["row"].isin((row.name, UNTRAINED))]
    if row.name not in set(found["row"]):
        raise SystemExit(f"results/{sky.name}.csv: no scores of {row.name} with seed {SEED}")
    return found


def _head(folder: Path, row: Row, sky: Sky, scores: pd.DataFrame) -> dict[str, Any]:
    tested = scores[(scores["readout"] == TESTED) & (scores["row"] == row.name)].iloc[0]
    facts = Run(folder).facts()
    run = Run(folder)
    paths = (run.config, run.encoder, run.environment, folder / SEEN_IMAGES_FILE)
    files = sorted(path.name for path in paths)
    return {
        "name": folder.name,
        "license": "mit",
        "trained_by": f"deeplens_tf {facts['packages']['deeplens_tf']}",
        "study": {"row": row.name, "sky": sky.name, "seed": SEED},
        "noise": "--noise" in sky.options,
        "lens_prior": lens_prior(sky),
        "probe": {
            "readout": TESTED,
            "labels": round(TESTED_FRACTION * facts["split_counts"]["train"]),
            **{key: float(tested[key]) for key in ("value", "low", "high")},
        },
        "sha256": {name: sha256_of(folder / name) for name in files},
    }


def _table(scores: pd.DataFrame, row: Row) -> str:
    cells = {
        (line.row, line.readout): f"{line.value:.4f} [{line.low:.4f}, {line.high:.4f}]"
        for line in scores.itertuples()
    }
    return "\n".join(
        f"| {readout} | {text} | {cells.get((UNTRAINED, readout), '-')} |"
        for (name, readout), text in cells.items()
        if name == row.name
    )


def _of_study(row: Row, sky: Sky) -> dict[str, Any]:
    noisy, (halo, other_halos) = "--noise" in sky.options, HALOS[lens_prior(sky)]
    return {
        **{"halo": halo, "other_halos": other_halos},
        "simulation": " ".join((*sky.options, *sky.pairs)),
        **{"row": row.name, "title": row.title, "sky": sky.name, "seed": SEED},
        **{"noise": NOISE[noisy], "other_noise": NOISE[not noisy]},
        **{"train_seed": TRAIN_SEED, "test_seed": TEST_SEED, "test_images": TEST_IMAGES},
        "inverse_penalty": INVERSE_PENALTY,
        **{"lens_redshift": priors.LENS_REDSHIFT, "source_redshift": priors.SOURCE_REDSHIFT},
        **{"offset": priors.SOURCE_OFFSET_ARCSEC, "subhalos": priors.SUBHALO_COUNT},
        "axion": priors.AXION_MASS_LOG10_EV,
    }


def lens_prior(sky: Sky) -> str:
    """Return the prior of halo and shear: a key of `HALOS`."""
    return "wide" if "wide" in sky.options else "published"


def _of_network(folder: Path) -> dict[str, Any]:
    encoder, config = dl.load_encoder(folder), Run(folder).load_config()
    height, _, bands = encoder.image_shape
    return {
        **{"network": config.encoder.name, "patch": config.encoder.patch_size},
        **{"size": height, "bands": bands, "fit": config.data.fit},
        **{"parameters": encoder.count_params(), "width": feature_shape(encoder)[-1]},
    }


def _of_training(run: Run) -> dict[str, Any]:
    config, facts = run.load_config(), run.facts()
    counts, packages = facts["split_counts"], facts["packages"]
    return {
        **_images_of_training(facts, config.train.epochs),
        "validation": counts["validation"],
        **{"method": config.pretrain.method, "positives": config.pretrain.positives},
        **{"views": ", ".join(config.augment.views), "epochs": config.train.epochs},
        **{"batch": config.train.batch_size, "optimizer": config.optimizer.name},
        **{"rate": config.optimizer.learning_rate},
        "start": config.pretrain.encoder or "random weights",
        "minutes": facts["processor_seconds"] / 60,
        **{"processor": facts["processor"], "cores": facts["cores"]},
        **{"tensorflow": packages["tensorflow"], "keras": packages["keras"]},
    }


def _images_of_training(facts: Mapping[str, Any], epochs: int) -> dict[str, str]:
    if "stream" not in facts:
        count = facts["split_counts"]["train"]
        return {
            "images": f"{count:,}, two of each of {count // 2:,} simulated lenses of Model II with "
            "other sources",
            "seen": "`images.csv` has the digest of each image that it was trained on, so that",
        }
    lenses = facts["stream"]["pairs_per_epoch"]
    return {
        "images": f"drawn while training, two of each of {lenses:,} new lenses of Model II in each "
        f"of {epochs} epochs, which share the substructure alone",
        "seen": "No drawn image can be one of a stored simulation; `images.csv` has the digests of "
        "those of the encoder that it started from, so that",
    }


if __name__ == "__main__":
    main(sys.argv[1:])
