"""Put the encoder of a row into the package: `python -m results.ship object clean NAME`.

It copies the run of the row's first seed and writes its model card. Without arguments, it writes the
cards of the shipped encoders again, from their folders and the tables.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import deeplens_tf as dl
from deeplens_tf.config import Config, load_config, save_config
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
PAIRS = (
    "\n- The pairs of one lens come from the simulator, which knows the lens. Both images of a pair "
    "have one class, so that they hold\n  some information on the classes."
)


def main(argv: Sequence[str]) -> None:
    """Ship an encoder, or write the cards again."""
    parser = argparse.ArgumentParser(prog="python -m results.ship", description=__doc__)
    rows, skies = {row.name: row for row in ROWS}, {sky.name: sky for sky in SKIES}
    parser.add_argument("row", nargs="?", choices=rows)
    parser.add_argument("sky", nargs="?", choices=skies)
    parser.add_argument("name", nargs="?")
    arguments = parser.parse_args(argv)
    if arguments.row is None:
        for card in shipped_encoders().values():
            card.write_text(card_again(card), encoding="utf-8")
        return
    if arguments.name is None or not arguments.name.isidentifier():
        parser.error("give ROW SKY NAME; the name is an identifier")
    ship(rows[arguments.row], skies[arguments.sky], SHIPPED / arguments.name)


def ship(row: Row, sky: Sky, folder: Path) -> None:
    """Write the folder of a shipped encoder: a run folder without what only its machine needs."""
    run = Run(row_folder(row, sky, SEED) / "pretrain")
    folder.mkdir(parents=True, exist_ok=True)
    for path in (run.encoder, run.folder / SEEN_IMAGES_FILE):
        shutil.copyfile(path, folder / path.name)
    _write_config(run.load_config(), Run(folder))
    record = json.loads(run.folder.with_suffix(".json").read_text())
    facts = {key: value for key, value in run.facts().items() if key != "data_path"}
    Run(folder).environment.unlink(missing_ok=True)
    Run(folder).add_facts({**facts, "processor_seconds": record["processor_seconds"]})
    (folder / CARD).write_text(card(folder, row, sky), encoding="utf-8")


def card_again(path: Path) -> str:
    """Return the model card of a shipped encoder as its folder and the tables give it now."""
    study = card_head(path)["study"]
    (row,) = (row for row in ROWS if row.name == study["row"])
    (sky,) = (sky for sky in SKIES if sky.name == study["sky"])
    return card(path.parent, row, sky)


def card(folder: Path, row: Row, sky: Sky) -> str:
    """Return the model card of an encoder."""
    scores = _scores(row, sky)
    head = yaml.safe_dump(_head(folder, row, sky, scores), sort_keys=False, width=200)
    return f"---\n{head}---\n\n" + "\n\n".join(_sections(folder, row, sky, scores)) + "\n"


def _write_config(config: Config, run: Run) -> None:
    """Write the configuration with the default data, since those of the study stay there."""
    data = replace(config.data, path=load_config("contrastive").data.path)
    save_config(replace(config, data=data), run.config)


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
    labels = round(TESTED_FRACTION * facts["split_counts"]["train"])
    names = sorted(path.name for path in folder.iterdir() if path.name != CARD)
    return {
        "name": folder.name,
        "license": "mit",
        "package": f"deeplens_tf {facts['packages']['deeplens_tf']}",  # that trained it
        "study": {"row": row.name, "sky": sky.name, "seed": SEED},
        "noise": "--noise" in sky.options,
        "probe": {
            **{"readout": TESTED, "labels": labels},
            **{key: float(tested[key]) for key in ("value", "low", "high")},
        },
        "sha256": {name: sha256_of(folder / name) for name in names},
    }


def _sections(folder: Path, row: Row, sky: Sky, scores: pd.DataFrame) -> Iterator[str]:
    run = Run(folder)
    config, facts, name = run.load_config(), run.facts(), folder.name
    yield f"# {name}"
    yield (
        "An encoder of images of strong gravitational lenses, pretrained without labels: "
        f"{row.title}.\nMade by `python -m results.ship {row.name} {sky.name} {name}`; do not edit."
    )
    yield (
        "    import deeplens_tf as dl\n\n"
        f'    encoder = dl.load_encoder("{name}")\n'
        "    features = encoder.features(raw_images)  # pixels as files have them, (n, 64, 64)\n\n"
        f"    python -m deeplens_tf.finetune --encoder {name} --data FOLDER"
    )
    yield _architecture(folder, config)
    yield _training(config, facts, sky)
    yield _table(row, sky, scores)
    yield _limits(sky)


def _architecture(folder: Path, config: Config) -> str:
    encoder = dl.load_encoder(folder)
    size, patch = config.data.image_size, config.encoder.patch_size
    return (
        "## Network and input\n\n"
        f"- `{config.encoder.name}` with patches of {patch} x {patch} pixels: "
        f"{encoder.count_params():,} parameters, {feature_shape(encoder)[-1]} features.\n"
        f"- Input: {encoder.image_shape[-1]} band, the central {size} x {size} pixels "
        f"(`data.fit: {config.data.fit}`), their minimum and maximum scaled to 0 and 1. The file "
        "holds this preprocessing;\n  `encoder.features` applies it."
    )


def _training(config: Config, facts: dict[str, Any], sky: Sky) -> str:
    noise = "with the instrument's noise" if "--noise" in sky.options else "without noise"
    counts, minutes = facts["split_counts"], facts["processor_seconds"] / 60
    start = "random weights" if config.pretrain.encoder is None else config.pretrain.encoder
    return (
        "## Training\n\n"
        f"- Images: {counts['train']:,}, two of each of {counts['train'] // 2:,} simulated lenses of "
        f"Model II with other sources, {noise}\n  (`simulate --seed {TRAIN_SEED} --views-per-lens "
        f"2`; {counts['validation']:,} further images were for validation). `{SEEN_IMAGES_FILE}` has "
        "the\n  digest of each, so that evaluation counts those that it scores again.\n"
        f"- Priors: DeepLenseSim's. One halo (redshift {priors.LENS_REDSHIFT}, source at "
        f"{priors.SOURCE_REDSHIFT}, fixed mass, ellipticity and shear); the source lies within "
        f"{priors.SOURCE_OFFSET_ARCSEC} arcsec of the centre on each axis;\n  "
        f"{priors.SUBHALO_COUNT} subhalos in `cdm`, a vortex of an axion of "
        f"10^{priors.AXION_MASS_LOG10_EV[0]:.0f} to 10^{priors.AXION_MASS_LOG10_EV[1]:.0f} eV in "
        "`axion`.\n"
        f"- Method: `{config.pretrain.method}`, positives `{config.pretrain.positives}`, views "
        f"{', '.join(config.augment.views)}; {config.train.epochs} epochs, batches of "
        f"{config.train.batch_size}, {config.optimizer.name} at {config.optimizer.learning_rate:g}, "
        f"from {start}.\n  `config.yaml` has every setting; its data folder is the package's "
        "default instead of the study's.\n"
        f"- Time: {minutes:.0f} minutes of processor time ({facts['processor']}, "
        f"{facts['cores']} cores); TensorFlow {facts['packages']['tensorflow']}, "
        f"Keras {facts['packages']['keras']}." + PAIRS * (config.pretrain.positives == "object")
    )


def _table(row: Row, sky: Sky, scores: pd.DataFrame) -> str:
    def cells(name: str) -> dict[str, str]:
        lines = scores[scores["row"] == name].itertuples()
        return {
            line.readout: f"{line.value:.4f} [{line.low:.4f}, {line.high:.4f}]" for line in lines
        }

    ours, control = cells(row.name), cells(UNTRAINED)
    lines = (f"| {key} | {value} | {control.get(key, '-')} |" for key, value in ours.items())
    return (
        "## What the frozen features contain\n\n"
        f"On {TEST_IMAGES:,} test images a class (`simulate --split test --seed {TEST_SEED}`), with "
        f"95 % intervals over these images; seed {SEED}.\nFrom "
        f"[results/{sky.name}.csv](../../../results/{sky.name}.csv), by "
        "[results/protocol.md](../../../results/protocol.md). A probe is a logistic regression "
        f"(C = {INVERSE_PENALTY:g});\nits score is the macro AUC, or the AUC of `axion` against "
        "`cdm`. Ridge regression is of log10 of the axion's mass.\n\n"
        "| readout (fraction or number of labels) | this encoder | untrained network |\n"
        "| --- | --- | --- |\n" + "\n".join(lines)
    )


def _limits(sky: Sky) -> str:
    other = "without noise" if "--noise" in sky.options else "with noise"
    return (
        "## Use and limits\n\n"
        "For experiments on simulated lenses like those it was trained on, and as a start for "
        "fine-tuning. Not tested, so expect nothing:\n\n"
        f"- images {other}, or of another instrument, pixel scale or PSF;\n"
        "- other halos than the one of Model II: all training images have one mass, ellipticity and "
        "shear;\n"
        "- real images. No scientific conclusion on dark matter follows from its scores.\n\n"
        "License: MIT, as of the package."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
