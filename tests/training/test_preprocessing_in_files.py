"""The preprocessing of the training data goes from stage to stage, and other data are refused."""

import shutil

import numpy as np
import pytest

from deeplens_tf import finetune as finetune_stage
from deeplens_tf.config import load_config
from deeplens_tf.data.folder_settings import with_folder_settings
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.encoder_probe import probe
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.evaluation.probe_report import evaluate_probe
from deeplens_tf.models import build_encoder
from deeplens_tf.preprocessing.statistics import TrainingRange, image_statistics
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder, load_model, save_encoder
from deeplens_tf.training.finetuning import finetune
from deeplens_tf.training.pretraining import pretrain
from deeplens_tf.training.training_range import training_range
from tests.conftest import eagerly, without_pictures, write_blobs

WORDS = (
    *("data.image_size=16", "train.epochs=1", "train.batch_size=8", "train.jit_compile=false"),
    *("optimizer.warmup_epochs=0", "encoder.options.depth=1"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of pixels of 0.05 arcsec, a copy of it without that, and a run of each stage."""
    root = tmp_path_factory.mktemp("place")
    write_blobs(root / "lenses", 8, 0)
    shutil.copytree(root / "lenses", root / "unknown")
    (root / "lenses" / "images.yaml").write_text("pixel_scale_arcsec: 0.05\nband_names: [g]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with eagerly(), without_pictures():
            pretrain(configured("contrastive", root), "contrastive", str(root / "pretrained"))
        finetuned(root, "lenses", run_dir=root / "finetuned")
    return root


def configured(name, root, *words, folder="lenses"):
    words = (*WORDS, f"data.cache={root}/cache", *words)
    return with_folder_settings(load_config(name, words, str(root / folder)))


def finetuned(place, folder, *words, run_dir):
    words = (*words, f"finetune.encoder={place / 'pretrained'}")
    config = configured("finetune", place, *words, folder=folder)
    with eagerly(), without_pictures():
        return finetune(config, "finetune", str(run_dir))


def test_every_stage_stores_it(place):
    own = open_data(configured("finetune", place)).preprocessing
    assert own.band_names == ("g",)
    assert load_encoder(place / "pretrained").preprocessing == own
    model = load_model(place / "finetuned")
    assert model.preprocessing == own
    file = sorted((place / "lenses" / "cdm").glob("*.npy"))[0]
    assert model.predict_images([np.load(file)]).shape == (1, 3)
    evaluate_run(Run(place / "finetuned"))
    evaluate_probe(Run(place / "finetuned"))


def test_another_scale_of_values_than_the_encoders_is_refused(place, tmp_path):
    line = r"scaling percentile 0\.5 to 99\.5 instead of min-max: set data\.interval=minmax$"
    with pytest.raises(RequestError, match=line):
        finetuned(place, "lenses", "data.interval=percentile", run_dir=tmp_path / "run")
    filling = "data.max_nan_fraction=0.1"  # which changes no pixel of these images
    finetuned(place, "lenses", filling, run_dir=tmp_path / "run")
    how = load_model(tmp_path / "run").preprocessing
    assert how.scaling.max_nan_fraction == 0.1


def test_a_fine_tuning_keeps_what_its_own_data_do_not_tell(place, tmp_path):
    run = finetuned(place, "unknown", run_dir=tmp_path / "run")
    assert load_model(run.model).preprocessing.pixel_scale_arcsec == pytest.approx(
        load_encoder(place / "pretrained").preprocessing.pixel_scale_arcsec
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.pixel_scale_arcsec=0.1"], r"arcsec: set data\.resample_to_arcsec="),
        (["data.band_names=[r]"], "bands r instead of g"),
        (["data.image_size=8"], r"image_size 8 instead of 16"),
        (["data.bands=3"], r"3 bands instead of 1: set data\.bands=1"),
    ],
)
def test_other_data_are_refused_by_every_stage(place, tmp_path, words, message):
    with pytest.raises(RequestError, match=message):
        finetuned(place, "unknown", *words, run_dir=tmp_path / "run")
    message = rf"^{place / 'unknown'}: images are not as those .*{message}"  # not the cache
    other = configured("finetune", place, *words, folder="unknown")
    for evaluate in (evaluate_run, evaluate_probe):
        with pytest.raises(RequestError, match=message):
            evaluate(Run(place / "finetuned"), other)


def test_an_encoder_is_used_on_other_bands_where_that_is_asked_for(place, tmp_path, capsys):
    words = ("data.band_names=[r]", "data.other_bands=true")
    run = finetuned(place, "unknown", *words, run_dir=tmp_path / "run")
    assert ": trained on g, and these images are r\n" in capsys.readouterr().out
    assert load_model(run.model).preprocessing.band_names == ("r",)
    other = configured("finetune", place, *words, folder="unknown")
    assert evaluate_probe(Run(place / "pretrained"), other)[1]["n_test"] > 0
    with pytest.raises(RequestError, match=r"set data\.other_bands=true to use it on other bands$"):
        finetuned(place, "unknown", words[0], run_dir=tmp_path / "other")


def test_a_probe_in_python_refuses_other_data(place):
    words = ("data.pixel_scale_arcsec=0.1", "data.validation_fraction=0.3")
    data = open_data(configured("finetune", place, *words, folder="unknown"))
    with pytest.raises(ValueError, match="encoder must be trained on images like those"):
        probe(load_encoder(place / "pretrained"), data)


def test_the_scale_of_another_folder_is_not_taken_over(place):
    words = ["--encoder", str(place / "pretrained"), "--data", str(place / "unknown")]
    arguments = finetune_stage.build_parser().parse_args(["--config", "finetune", *words])
    data = finetune_stage.resolve_config(arguments).data
    assert (data.pixel_scale_arcsec, data.band_names) == (None, None)


def test_an_encoder_without_one_gets_that_of_the_data(place, tmp_path):
    encoder = build_encoder("vit_nano", (16, 16, 1), depth=1)
    save_encoder(encoder, tmp_path / "old.keras")
    words = [f"finetune.encoder={tmp_path / 'old.keras'}"]
    config = configured("finetune", place, *words)
    with eagerly(), without_pictures():
        run = finetune(config, "finetune", str(tmp_path / "run"))
    assert load_model(run.model).preprocessing == open_data(config).preprocessing


def test_the_range_is_of_the_used_training_images(place):
    data = open_data(configured("finetune", place))
    keep = np.arange(data.count("train")) % 2 == 0
    images = [each["image"] for each in data.examples("train").as_numpy_iterator()]
    assert training_range(data, keep) == TrainingRange.of(image_statistics(images[::2]))
    assert load_model(place / "finetuned").training_range.n == data.count("train")
