"""Hostile files of self-supervised models, made from a good one of BYOL, or of inpainting."""

import copy

from tests.hostile.models import LAMBDA, keras_object, with_recipe


def with_part(members, name, part):
    """The file with another part, or without it."""
    return with_recipe(members, lambda r: r["config"].update({name: copy.deepcopy(part)}))


def without_part(members, name):
    return with_recipe(members, lambda r: r["config"].pop(name))


def with_layer(members, layer, name="projector"):
    """The file with a further layer in one of its networks."""
    return with_recipe(
        members, lambda r: r["config"][name]["config"]["layers"].append(copy.deepcopy(layer))
    )


def with_options(members, name, kind, **options):
    """The file with other options of the last layer of a class in one of its networks."""

    def change(recipe):
        layers = recipe["config"][name]["config"]["layers"]
        next(layer for layer in reversed(layers) if layer["class_name"] == kind)["config"].update(
            options
        )

    return with_recipe(members, change)


def with_copied_part(members, source, place):
    """The file with one of its parts at another place, too."""

    def change(recipe):
        *path, last = place
        target = recipe["config"]
        for key in path:
            target = target[key]
        part = copy.deepcopy(recipe["config"][source])
        target.append(part) if last == "+" else target.update({last: part})

    return with_recipe(members, change)


def with_predictor_of_another_number(members):
    """The predictor is to be the object with the encoder's number."""

    def change(recipe):
        recipe["config"]["encoder"]["shared_object_id"] = 7
        recipe["config"]["predictor"]["shared_object_id"] = 7

    return with_recipe(members, change)


def unbuilt(members, name):
    def change(recipe):
        part = recipe["config"][name]
        part.pop("build_config")
        if "layers" in part["config"]:
            part["config"].pop("build_input_shape")
            part["config"]["layers"] = part["config"]["layers"][1:]
            for layer in part["config"]["layers"]:
                layer.pop("build_config", None)

    return with_recipe(members, change)


def single_layer(units, features):
    """A projector that was built for other features than the encoder returns."""
    return {
        **keras_object("Dense", name="projector", units=units),
        "build_config": {"input_shape": [None, features]},
    }


LAYERS = ("projector", "config", "layers", "+")
WITHIN = "within another network"
# Name -> (how the file is made from a good one's members, what the line says).
BYOL = {
    "a Lambda layer for a projector": (
        lambda m: with_part(m, "projector", LAMBDA),
        "config.json requests Lambda",
    ),
    "a Lambda layer in the projector": (
        lambda m: with_layer(m, LAMBDA),
        "config.json requests Lambda",
    ),
    "a layer that reads a file": (
        lambda m: with_layer(m, keras_object("StringLookup", vocabulary="/etc/passwd")),
        "config.json requests StringLookup",
    ),
    "a function for an activation": (
        lambda m: with_options(
            m,
            "projector",
            "Activation",
            activation={
                "module": "keras.utils",
                "class_name": "function",
                "config": "get_file",
                "registered_name": "function",
            },
        ),
        "config.json requests function",
    ),
    "an unknown activation": (
        lambda m: with_options(m, "predictor", "Activation", activation="os.system"),
        "the model in config.json cannot be built",
    ),
    "a network within the projector": (
        lambda m: with_copied_part(m, "predictor", LAYERS),
        "requests a projector with layers other than Activation, BatchNormalization, Dense",
    ),
    "an encoder within the projector": (
        lambda m: with_copied_part(m, "encoder", LAYERS),
        "requests a projector with layers other than Activation, BatchNormalization, Dense",
    ),
    "an encoder for a projector": (
        lambda m: with_copied_part(m, "encoder", ("projector",)),
        "a model without a valid projector",
    ),
    "a layer of no class": (
        lambda m: with_layer(m, {"config": {}}),
        "requests a projector with layers other than",
    ),
    "a layer that is no object": (
        lambda m: with_layer(m, "Dense"),
        "requests a projector with layers other than",
    ),
    "layers without end": (
        lambda m: with_recipe(
            m,
            lambda r: r["config"]["projector"]["config"].update(
                layers=65 * r["config"]["projector"]["config"]["layers"][1:2]
            ),
        ),
        "requests a projector not of 1 to 64 layers",
    ),
    "a projector without layers": (
        lambda m: with_recipe(m, lambda r: r["config"]["projector"]["config"].update(layers=[])),
        "requests a projector not of 1 to 64 layers",
    ),
    "a network in a place of its own": (
        lambda m: with_copied_part(m, "encoder", ("temperature",)),
        WITHIN,
    ),
    "a network for the momentum": (
        lambda m: with_copied_part(m, "predictor", ("momentum",)),
        WITHIN,
    ),
    "a network for an initial value": (
        lambda m: with_copied_part(m, "encoder", ("probe", "config", "kernel_initializer")),
        WITHIN,
    ),
    "a decoder for nothing": (
        lambda m: with_part(
            m,
            "decoder",
            keras_object("PatchDecoder", "x", "deeplens_tf>PatchDecoder", patches=4),
        ),
        WITHIN,
    ),
    "no encoder": (lambda m: without_part(m, "encoder"), "a model without a valid encoder"),
    "no predictor": (lambda m: without_part(m, "predictor"), "a model without a valid predictor"),
    "a network for a probe": (
        lambda m: with_copied_part(m, "predictor", ("probe",)),
        "a model without a valid probe",
    ),
    "a part that is used twice": (with_predictor_of_another_number, "that is used twice"),
    "a part that is compiled": (
        lambda m: with_recipe(
            m, lambda r: r["config"]["projector"].update(compile_config={"optimizer": "adam"})
        ),
        "config.json requests a compiled part",
    ),
    "a gigantic layer in the projector": (
        lambda m: with_options(m, "projector", "Dense", units=10**9),
        "config.json describes a network of",
    ),
    "a layer of a size out of range": (
        lambda m: with_options(m, "projector", "Dense", units=10**12),
        "config.json requests a size of 1000000000000",
    ),
    "a gigantic probe": (
        lambda m: with_recipe(m, lambda r: r["config"]["probe"]["config"].update(units=10**9)),
        "config.json describes a network of",
    ),
    "a gigantic encoder": (
        lambda m: with_recipe(
            m, lambda r: r["config"]["encoder"]["config"].update(width=10**6, heads=1)
        ),
        "config.json describes a network of",
    ),
    "a gigantic input": (
        lambda m: with_options(m, "projector", "InputLayer", batch_shape=[None, 10**10]),
        "config.json requests a size of 10000000000",
    ),
    "an input of images": (
        lambda m: with_options(m, "projector", "InputLayer", batch_shape=[10**9, 10**5]),
        "an input other than a batch of vectors",
    ),
    "numbers of eight bytes": (
        lambda m: with_options(m, "projector", "Dense", dtype="float64"),
        "numbers of the type float64",
    ),
    "a projector that is not built": (
        lambda m: unbuilt(m, "projector"),
        "does not build the projector",
    ),
    "a probe that is not built": (lambda m: unbuilt(m, "probe"), "does not build the probe"),
    "a target much larger than its projector": (
        lambda m: with_part(m, "projector", single_layer(units=100, features=1)),
        "the model in config.json cannot be built",
    ),
}
INPAINTING = {
    "an encoder for a decoder": (
        lambda m: with_copied_part(m, "encoder", ("decoder",)),
        "a model without a valid decoder",
    ),
    "a ResNet to inpaint with": (
        lambda m: with_part(
            m,
            "encoder",
            keras_object("ResNet50", "x", "deeplens_tf>ResNet50", image_shape=[32, 32, 1]),
        ),
        "a model without a valid encoder",
    ),
    "a million blocks": (
        lambda m: with_recipe(m, lambda r: r["config"]["decoder"]["config"].update(depth=10**6)),
        "config.json requests 1000000 blocks",
    ),
    "gigantic patches": (
        lambda m: with_recipe(
            m, lambda r: r["config"]["decoder"]["config"].update(patch_pixels=10**9)
        ),
        "config.json describes a network of",
    ),
    "patches without end": (
        lambda m: with_recipe(m, lambda r: r["config"]["decoder"]["config"].update(patches=10**9)),
        "config.json describes a network of",
    ),
    "patches of a size out of range": (
        lambda m: with_recipe(m, lambda r: r["config"]["decoder"]["config"].update(patches=-1)),
        "config.json requests a size of -1",
    ),
    "a decoder that is not built": (lambda m: unbuilt(m, "decoder"), "does not build the decoder"),
}
