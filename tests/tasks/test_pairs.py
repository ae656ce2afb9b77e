"""Image pairs: what is on a canvas, what is asked, and that no image leaks from train to dev or test."""

import pytest
import torch
from torch import Tensor

from avil_fast.config.model import ConvNetConfig
from avil_fast.config.pairs import DigitsConfig
from avil_fast.errors import AvilError
from avil_fast.tasks import digits
from avil_fast.tasks.pairs import Images, Pairs, build
from avil_fast.tasks.task import Task

SIDE, CLASSES = 4, 6
SIZES = DigitsConfig(train=50, auxiliary_train=60, dev=30, test=40)


def numbered(count: int = 90) -> Images:
    """Images that can be told apart: number i is i/128 all over."""
    number = torch.arange(count)
    pixels = ((number + 1) / 128).reshape(-1, 1, 1).expand(-1, SIDE, SIDE)
    return Images(pixels.clone(), number % CLASSES)


def parts(seed: int = 0) -> dict[str, Images]:
    return dict(zip(("train", "dev", "test"), numbered().split((50, 20, 20), seed), strict=True))


def tasks(seed: int = 0, config: DigitsConfig = SIZES) -> list[Task]:
    return build(parts(seed), config, ConvNetConfig(width=4), seed)[1]


def tensors(task: Task, split: str) -> tuple[Tensor, Tensor]:
    return getattr(task, split).tensors


def shown(canvas: Tensor) -> set[float]:
    """The images on some canvases: one shows in the upper left corner, the other in the lower right."""
    return {*canvas[:, 0, 0, 0].tolist(), *canvas[:, 0, -1, -1].tolist()}


def test_split_gives_disjoint_parts_with_their_labels() -> None:
    images = numbered()
    split = images.split((50, 20, 10), seed=0)
    seen = [set(part.pixels[:, 0, 0].tolist()) for part in split]
    assert [len(s) for s in seen] == [50, 20, 10]
    assert len(set.union(*seen)) == 80
    for part in split:
        assert torch.equal((part.pixels[:, 0, 0] * 128 - 1).long() % CLASSES, part.labels)


def test_no_image_of_dev_or_test_is_trained_on() -> None:
    target, *auxiliaries = tasks()
    trained = shown(tensors(target, "train")[0]).union(*(shown(tensors(t, "train")[0]) for t in auxiliaries))
    dev, test = (shown(tensors(target, split)[0]) for split in ("dev", "test"))
    assert not trained & dev
    assert not trained & test
    assert not dev & test


def test_the_digits_are_split_without_overlap_and_remainder() -> None:
    assert sum(digits.SPLITS) == 1797


def test_both_images_are_on_the_canvas_and_the_brighter_pixel_wins() -> None:
    images = numbered()
    pairs = Pairs.draw(images, 20, seed=0)
    assert pairs.pixels.shape == (20, 1, SIDE + SIDE // 2, SIDE + SIDE // 2)
    first, second = pairs.pixels[:, 0, 0, 0], pairs.pixels[:, 0, -1, -1]
    overlap = pairs.pixels[:, 0, SIDE // 2 : SIDE, SIDE // 2 : SIDE]
    assert torch.equal(overlap, torch.maximum(first, second).reshape(-1, 1, 1).expand_as(overlap))
    assert not pairs.pixels[:, 0, 0, SIDE:].any()
    for label, value in ((pairs.upper_left, first), (pairs.lower_right, second)):
        assert torch.equal(label, (value * 128 - 1).long() % CLASSES)


def test_drawing_leaves_the_images_alone() -> None:
    images = numbered()
    Pairs.draw(images, 20, seed=0)
    assert torch.equal(images.pixels, numbered().pixels)


@pytest.mark.parametrize(
    ("task", "expected"),
    [("upper_left", [0, 2, 3, 5]), ("lower_right", [5, 4, 1, 0]), ("upper_left_high", [0, 0, 1, 1])],
)
def test_labels_answer_what_a_task_asks(task: str, expected: list[int]) -> None:
    pairs = Pairs(torch.zeros(4, 1, 6, 6), torch.tensor([0, 2, 3, 5]), torch.tensor([5, 4, 1, 0]))
    assert pairs.labels_for(task, CLASSES, 0).tolist() == expected


def test_random_labels_tell_nothing_about_the_images_but_are_the_seeds() -> None:
    blank = Pairs(torch.zeros(300, 1, 6, 6), *torch.zeros(2, 300, dtype=torch.int64))
    labels = blank.labels_for("random_labels", CLASSES, 0)
    assert set(labels.tolist()) == set(range(CLASSES))
    assert torch.equal(labels, blank.labels_for("random_labels", CLASSES, 0))
    assert not torch.equal(labels, blank.labels_for("random_labels", CLASSES, 1))


def test_an_unknown_question_is_refused() -> None:
    with pytest.raises(AvilError, match="lower_left"):
        Pairs.draw(numbered(), 1, 0).labels_for("lower_left", CLASSES, 0)


def test_same_seed_same_data_and_model() -> None:
    torch.manual_seed(1)
    model, built = build(parts(), SIZES, ConvNetConfig(width=4), 0)
    torch.manual_seed(2)
    again, rebuilt = build(parts(), SIZES, ConvNetConfig(width=4), 0)
    other, changed = build(parts(1), SIZES, ConvNetConfig(width=4), 1)
    for one, two, three in zip(built, rebuilt, changed, strict=True):
        assert all(map(torch.equal, tensors(one, "train"), tensors(two, "train")))
        assert not torch.equal(tensors(one, "train")[0], tensors(three, "train")[0])
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    assert not all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    tasks()
    assert torch.equal(torch.get_rng_state(), before)


def test_sizes_and_names_are_the_settings() -> None:
    target, *auxiliaries = tasks()
    assert (target.name, [t.name for t in auxiliaries]) == ("upper_left", list(SIZES.auxiliaries))
    assert [len(tensors(target, split)[0]) for split in ("train", "dev", "test")] == [50, 30, 40]
    assert {len(tensors(t, "train")[0]) for t in auxiliaries} == {60}
    assert all(t.dev is None and t.test is None for t in auxiliaries)


def test_leaving_out_an_auxiliary_leaves_the_others_as_they_are() -> None:
    by_name = {t.name: t for t in tasks()}
    fewer = tasks(config=SIZES.model_copy(update={"auxiliaries": ("random_labels",)}))
    assert [t.name for t in fewer] == ["upper_left", "random_labels"]
    for task in fewer:
        assert all(map(torch.equal, tensors(task, "train"), tensors(by_name[task.name], "train")))


def test_the_model_answers_every_task_through_its_own_head() -> None:
    model, built = build(parts(), SIZES, ConvNetConfig(width=4), 0)
    for task in built:
        batch = [t[:5] for t in tensors(task, "train")]
        assert task.loss(model, batch).shape == ()
        assert task.metric is not None
        assert task.metric(model, batch).shape == (5,)
        assert any(name.startswith(f"{task.head}.") for name, _ in model.named_parameters())
    assert len({task.head for task in built}) == len(built)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_train_does_not_have_is_refused(label: int) -> None:
    splits = parts()
    splits["dev"].labels[3] = label
    with pytest.raises(AvilError, match=f"dev images have label {label}"):
        build(splits, SIZES, ConvNetConfig(width=4), 0)
