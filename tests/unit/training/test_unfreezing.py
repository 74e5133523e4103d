"""Unfreezing plan, from the head to the input."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from segpipe.models.classifier import LesionClassifier, build_classifier
from segpipe.training.schedule import ProgressiveUnfreezing, parameter_groups, plan_unfreezing


@pytest.fixture(scope="module")
def model() -> LesionClassifier:
    return build_classifier(name="resnet10t", classes=7, attention="cbam")


def test_head_is_first_and_the_last_entry_applies_to_the_rest(model: LesionClassifier) -> None:
    plan = plan_unfreezing(model, from_epochs=[0, 1, 3], lr_decay=0.5, learning_rate=0.1)
    assert [stage.name for stage in plan.stages] == ["head", "stage5", "stage4", "stage3", "stage2", "stage1"]
    assert [stage.from_epoch for stage in plan.stages] == [0, 1, 3, 3, 3, 3]
    assert [stage.learning_rate for stage in plan.stages] == pytest.approx([0.1 * 0.5**depth for depth in range(6)])
    assert sum(stage.parameters for stage in plan.stages) == sum(weights.numel() for weights in model.parameters())


def test_trained_stage_is_never_frozen_again(model: LesionClassifier) -> None:
    plan = plan_unfreezing(model, from_epochs=[0, 1, 3], lr_decay=0.5, learning_rate=0.1)
    frozen = [set(plan.frozen_in(epoch)) for epoch in range(5)]
    assert [len(names) for names in frozen] == [5, 4, 4, 0, 0]
    assert all(later <= earlier for earlier, later in pairwise(frozen))


def test_all_at_once_freezes_nothing(model: LesionClassifier) -> None:
    assert plan_unfreezing(model, from_epochs=[0], lr_decay=1.0, learning_rate=0.1).frozen_in(0) == []


def test_more_entries_than_stages_are_no_error(model: LesionClassifier) -> None:
    plan = plan_unfreezing(model, from_epochs=list(range(20)), lr_decay=1.0, learning_rate=0.1)
    assert [stage.from_epoch for stage in plan.stages] == [0, 1, 2, 3, 4, 5]


def test_plan_is_printed_as_a_table(model: LesionClassifier) -> None:
    plan = plan_unfreezing(model, from_epochs=[0, 2], lr_decay=0.5, learning_rate=0.001)
    header, *rows = str(plan).splitlines()
    assert header.split()[:2] == ["stage", "weights"]
    assert len(rows) == len(plan.stages)
    assert rows[1].split() == ["stage5", f"{plan.stages[1].parameters:,}", "2", "5.00e-04"]


@pytest.mark.parametrize("from_epochs", [[], [1], [0, 2, 1], [-1, 0]])
def test_plan_that_starts_late_or_decreases_is_refused(model: LesionClassifier, from_epochs: list[int]) -> None:
    with pytest.raises(ValueError, match=r"unfreeze\.from_epochs must .* got \["):
        plan_unfreezing(model, from_epochs=from_epochs, lr_decay=1.0, learning_rate=0.1)


@pytest.mark.parametrize("lr_decay", [0, -1, 1.5])
def test_decay_outside_0_to_1_is_refused(model: LesionClassifier, lr_decay: float) -> None:
    with pytest.raises(ValueError, match=rf"unfreeze\.lr_decay must be above 0 and at most 1, got {lr_decay}"):
        plan_unfreezing(model, from_epochs=[0], lr_decay=lr_decay, learning_rate=0.1)


def test_each_weight_is_in_one_group_with_the_rate_of_its_stage(model: LesionClassifier) -> None:
    plan = plan_unfreezing(model, from_epochs=[0, 1], lr_decay=0.5, learning_rate=0.1)
    optimizer = torch.optim.AdamW(parameter_groups(model, plan), lr=123)
    groups = optimizer.param_groups
    assert sorted(id(weights) for group in groups for weights in group["params"]) == sorted(map(id, model.parameters()))
    assert {group["name"]: group["lr"] for group in groups} == {stage.name: stage.learning_rate for stage in plan.stages}


def test_frozen_stages_depend_only_on_the_number_of_the_epoch() -> None:
    model = build_classifier(name="resnet10t", classes=7, attention="cbam")
    plan = plan_unfreezing(model, from_epochs=[0, 1, 3], lr_decay=1.0, learning_rate=0.1)
    callback, task = ProgressiveUnfreezing(plan), SimpleNamespace(model=model)
    for epoch in (0, 1, 2, 3, 1):
        callback.on_train_epoch_start(SimpleNamespace(current_epoch=epoch), task)
        assert model.frozen_stages == set(plan.frozen_in(epoch))
        for group in parameter_groups(model, plan):
            assert {part.requires_grad for part in group["params"]} == {group["name"] not in model.frozen_stages}
