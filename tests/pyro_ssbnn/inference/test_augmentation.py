"""Augmentation of images: genuine crops, mirrors and rectangles, at the frequencies asked for."""

import math

import pytest
import torch
from torch.nn.functional import pad

from pyro_ssbnn import (
    MLP,
    SSIG,
    CategoricalLikelihood,
    GaussianLikelihood,
    ImageAugmentation,
    LeNet,
    TrainingOptions,
    fit,
)
from pyro_ssbnn.errors import ConfigurationError, DataError

SHAPE = (2, 5, 4)
SIZE = math.prod(SHAPE)


def images(n=1):
    """No two pixels alike, and none zero."""
    return (1 + torch.arange(float(n * SIZE))).reshape(n, SIZE)


def outcomes(padding):
    """Every crop of the padded image and of its mirror, ``{(top, left, mirrored): [p]}``."""
    found = {}
    padded = pad(images().reshape(SHAPE), [padding] * 4)
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + SHAPE[1], left : left + SHAPE[2]]
            found[top, left, False] = crop.flatten()
            found[top, left, True] = crop.flip(-1).flatten()
    return found


def assert_share(count, n, probability, sigmas=4.5):
    """A binomial count within its own standard errors."""
    assert abs(count - n * probability) <= sigmas * math.sqrt(n * probability * (1 - probability))


def test_every_result_is_a_genuine_crop_at_its_frequency():
    n, flip = 4000, 0.3
    changed = ImageAugmentation(SHAPE, padding=1, flip=flip)(images().expand(n, -1))
    counts = {k: int((changed == v).all(1).sum()) for k, v in outcomes(1).items()}
    assert len(counts) == 18
    assert sum(counts.values()) == n
    for (_, _, mirrored), count in counts.items():
        assert_share(count, n, (flip if mirrored else 1 - flip) / 9)


def test_images_of_a_minibatch_keep_to_themselves():
    x = images(50)
    changed = ImageAugmentation(SHAPE, padding=2)(x)
    rows = torch.arange(50).unsqueeze(1)
    owner = ((changed - 1) // SIZE).long()
    assert ((owner == rows) | (changed == 0)).all()
    channel = ((changed - 1).remainder(SIZE) // 20).long()
    expected = torch.arange(SIZE) // 20
    assert ((channel == expected) | (changed == 0)).all()


def test_certain_and_absent_changes_are_exact():
    x = images(3)
    assert torch.equal(ImageAugmentation(SHAPE, padding=0, flip=0.0)(x), x)
    mirrored = ImageAugmentation(SHAPE, padding=0, flip=1.0)(x)
    assert torch.equal(mirrored, x.unflatten(1, SHAPE).flip(-1).flatten(1))


def test_erased_pixels_are_a_rectangle_of_the_area_asked_for():
    n, shape = 2000, (2, 20, 20)
    area, aspect = (0.1, 0.3), (0.5, 2.0)
    erase = ImageAugmentation(shape, 0, 0.0, erase=0.4, erase_area=area, erase_aspect=aspect)
    changed = erase(torch.ones(n, 800)).unflatten(1, shape)
    assert torch.equal(changed[:, 0], changed[:, 1])
    gone = changed[:, 0] == 0
    hit = gone.flatten(1).any(1)
    assert_share(int(hit.sum()), n, 0.4)
    tall, wide = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(gone.sum((1, 2)), tall * wide)  # a rectangle, without gaps or cut corners
    assert torch.equal(gone.any(2).long().diff(dim=1).clamp(min=0).sum(1) <= 1, hit | ~hit)
    sides = torch.stack([tall, wide])[:, hit].double()
    # Sides are rounded: half a pixel each way.
    assert ((sides + 0.5).prod(0) >= 400 * area[0]).all()
    assert ((sides - 0.5).prod(0) <= 400 * area[1]).all()
    assert ((sides[0] - 0.5) / (sides[1] + 0.5) <= aspect[1]).all()
    assert ((sides[0] + 0.5) / (sides[1] - 0.5) >= aspect[0]).all()
    # The mean area is the middle of the range but for rounding, which is unbiased to first order.
    areas = sides.prod(0) / 400
    assert abs(areas.mean() - 0.2) <= 4.5 * areas.std() / len(areas) ** 0.5 + 1 / 400


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype):
    assert ImageAugmentation(SHAPE, erase=0.5)(images(3).to(dtype)).dtype == dtype


def test_nothing_synchronises_or_leaves_the_device():
    """On ``meta`` every .item(), and every mixing with a CPU tensor, raises."""
    changed = ImageAugmentation(SHAPE, erase=0.5)(torch.zeros(7, SIZE, device="meta"))
    assert changed.device.type == "meta"
    assert changed.shape == (7, SIZE)


def test_runs_repeat_with_torchs_seed():
    augment = ImageAugmentation(SHAPE, erase=0.5)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(augment(images(20)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (28, 28)}, r"image_shape must be three positive numbers"),
        ({"image_shape": (1, 0, 28)}, r"image_shape must be three positive numbers"),
        ({"padding": -1}, "padding must be at least 0"),
        ({"flip": 1.5}, "flip must be a probability"),
        ({"erase": -0.1}, "erase must be a probability"),
        ({"erase_area": (0.3, 0.2)}, "erase_area must be two rising shares"),
        ({"erase_aspect": (0.0, 2.0)}, "erase_aspect must be two rising positive"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ImageAugmentation(**{"image_shape": SHAPE, **options})


def test_images_of_another_shape_are_refused():
    with pytest.raises(DataError, match=r"x must be \[N, 40\].*got \[3, 39\]"):
        ImageAugmentation(SHAPE)(torch.zeros(3, 39))


def test_options_round_trip():
    augment = ImageAugmentation([1, 3, 3], erase=0.2, erase_area=[0.1, 0.2])
    assert ImageAugmentation(**augment.to_config()) == augment


class TestInFit:
    OPTIONS = TrainingOptions(epochs=4, batch_size=8, kl_warmup=0.0, remove_below=None)

    def data(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(24, 64, generator=generator)
        return x, torch.arange(24) % 3

    def fitted(self, **options):
        model = LeNet(
            (1, 8, 8),
            [3],
            [4],
            prior=SSIG(inclusion=0.5),
            likelihood=CategoricalLikelihood(3),
            kernel_size=3,
        )
        model = options["resume"].model if "resume" in options else model
        augment = ImageAugmentation((1, 8, 8), padding=1, erase=0.3)
        return fit(model, *self.data(), self.OPTIONS, augment=augment, progress=False, **options)

    def test_resumed_equals_uninterrupted(self):
        whole = self.fitted()

        class StopError(Exception):
            pass

        kept = {}

        def stop(epoch, result):
            if epoch == 2:
                kept["fit"] = result
                raise StopError

        with pytest.raises(StopError):
            self.fitted(callback=stop)
        resumed = self.fitted(resume=kept["fit"])
        assert resumed.history.kl == whole.history.kl
        assert resumed.history.log_likelihood == whole.history.log_likelihood

    def test_the_step_sees_the_augmented_minibatch(self):
        """Predictors that augmentation puts to zero leave the first layer's means where the KL alone moves them."""
        x = torch.randn(40, 3)
        seen = []

        def augment(batch):
            seen.append(batch.shape)
            return 0 * batch

        runs = []
        for data, change in ((x, augment), (0 * x, None)):
            model = MLP(3, [4], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood())
            runs.append(
                fit(model, data, x[:, 0], self.OPTIONS, augment=change, progress=False).guide
            )
        assert set(seen) == {(8, 3)}
        assert torch.equal(runs[0].hidden1.weight.loc, runs[1].hidden1.weight.loc)

    def test_predictors_may_leave_the_network_meanwhile(self):
        """Augmentation sees all predictors, the live network those that are left."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(200, 6, generator=generator)
        y = x[:, 0] - x[:, 1]
        seen = set()

        def augment(batch):
            seen.add(batch.shape[1])
            return batch

        model = MLP(
            6, [8], prior=SSIG(inclusion=0.1), likelihood=GaussianLikelihood(), input_inclusion=0.1
        )
        options = TrainingOptions(
            epochs=60, batch_size=40, mean_rate=0.1, gate_rate=0.05, kl_warmup=0.2
        )
        plain = fit(model, x, y, options, progress=False)
        changed = fit(model, x, y, options, augment=augment, progress=False)
        assert any(r.group == "input" for r in plain.history.removed)
        assert seen == {6}
        assert plain.history.kl == changed.history.kl

    def test_another_shape_is_refused(self):
        x = torch.randn(40, 3)
        model = MLP(3, [4], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood())
        with pytest.raises(ConfigurationError, match=r"\[8, 3\]; got \[8, 2\]"):
            fit(
                *(model, x, x[:, 0], self.OPTIONS),
                augment=lambda batch: batch[:, :2],
                progress=False,
            )
