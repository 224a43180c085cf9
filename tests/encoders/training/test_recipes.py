"""The recipes by name, and a stage that finds another recipe's result."""

from dataclasses import asdict, fields

import pytest
import torch
from torch import nn

from encoders.errors import CompsketchError, DataError
from encoders.training import calibration, recipes, spatial
from encoders.training.checkpoints import plain, save_result
from encoders.training.loop import Work
from encoders.training.recipes import RECIPES, named


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_stage_of_a_recipe_has_its_name(name):
    recipe = named(name)
    assert [getattr(recipe, stage).recipe for stage in recipes.STAGES] == [name] * 3
    for stage in recipes.STAGES:
        assert plain(getattr(recipe, stage))["recipe"] == name  # it goes into logs and results as JSON
    assert recipe.projection.dim % recipe.projection.m == 0


def test_the_papers_recipe_is_section_3():
    recipe = named("paper")
    first, second = recipe.objects, recipe.spatial
    assert (first.objects.sketch_backbone, first.objects.dim, first.objects.share_late) == ("googlenet", 256, True)
    assert asdict(second.weights) == {
        "in_batch": 0.0,
        "sim": 0.80,
        "ce": 0.15,
        "con": 0.05,
        "cells": 0.0,
        "asked_cells": 0.0,
    }
    assert (second.margin, second.head, second.weight_decay, second.learning_rate) == (0.3, 4096, 5e-4, 1e-4)
    assert (second.trunk_learning_rate, second.decoupled, second.one_cycle, second.ema) == (1e-4, False, False, 0)
    assert (second.indexing.backbone, second.indexing.channels, second.indexing.trained) == ("googlenet", 0, -1)
    assert (second.asking.mixture.crop, second.asking.mixture.sketch) == (1, 0)
    assert (recipe.projection.m, second.widths) == (16, (256, 512))


def test_the_papers_networks_have_the_papers_sizes():
    """40,768 numbers a photo, every layer of the trunk learns, and a 4096-D fc layer reads T_I (eq. 6)."""
    config = named("paper").spatial
    with torch.device("meta"):  # 167 million weights of g need no memory here
        model = spatial.Model(config, channels=256, classes=141, pretrained=False)
        model.pixels = nn.Identity()
        found = model(torch.zeros(2, 3, 224, 224), torch.zeros(2, 31, 31, dtype=torch.long), torch.zeros(5, 256))
    assert [tuple(part.shape) for part in found[:3]] == [(2, 40768), (2, 40768), (2, 141)]
    assert len(model.image.frozen) == 0
    assert all(weight.requires_grad for weight in model.parameters())
    assert [layer.out_features for layer in model.g if isinstance(layer, nn.Linear)] == [4096, 141]


def test_an_unknown_recipe_lists_the_known():
    with pytest.raises(CompsketchError, match="unknown recipe 'best'; choose one of paper, default, smoke"):
        named("best")


def test_a_stage_refuses_the_result_of_another_recipe(tmp_path):
    save_result(tmp_path / "objects.pt", named("smoke").objects, {})
    with pytest.raises(
        DataError, match=r"objects\.pt was made by another configuration \(recipe 'smoke', not 'default'"
    ):
        recipes.run(named("default"), ["spatial"], Work(tmp_path, tmp_path))


def test_a_stage_names_the_one_that_has_to_run_before(tmp_path):
    for stages, before in ((["spatial"], "objects"), (["projection"], "objects")):
        with pytest.raises(DataError, match=rf"{before}\.pt: no such result; run `compsketch train {before}`"):
            recipes.run(named("default"), stages, Work(tmp_path, tmp_path))


def test_a_trial_is_calibrated_on_few_photos_and_the_others_on_all():
    assert {name: named(name).calibration.photos for name in RECIPES} == {"paper": 0, "default": 0, "smoke": 100}
    assert named("default").calibration.seeds == tuple(calibration.SEEDS)


def test_every_value_of_a_configuration_is_explained():
    for recipe in (make() for make in RECIPES.values()):
        for stage in (*recipes.STAGES, "calibration"):
            config = getattr(recipe, stage)
            assert all(f"{field.name}:" in (type(config).__doc__ or "") for field in fields(config))
