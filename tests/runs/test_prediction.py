"""Predictions from picture files agree with those from the data set itself."""

import os

import numpy as np
import pytest
from PIL import Image

from l2lnp.data import decoding
from l2lnp.errors import InputError
from l2lnp.meta.joint import averaged
from l2lnp.runs.evaluation import evaluate_run
from l2lnp.runs.prediction import classify, read_picture

from .short_runs import begin_short, go


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = begin_short(tmp_path_factory.mktemp("runs") / "run", optimizer="adam", steps=60)
    go(run)
    return run


def test_pictures_are_classified_as_the_same_pictures_of_the_data_set(run, tmp_path):
    test = run.problem.dataset.split("test")
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for path, image in zip(paths, test.images, strict=False):
        Image.fromarray(image[..., 0]).save(path)
    checkpoint = run.folder.load_checkpoint()
    x, _ = test.batch(np.arange(20))
    z = run.problem.task.network.predict(checkpoint.theta, x)
    p = np.exp(z) / np.exp(z).sum(0)
    predictions = classify(run.folder.path, paths)
    assert predictions.image_shape == (8, 8, 1)
    for column, classes in zip(p.T, predictions.classes, strict=True):
        assert len(classes) == 10
        assert classes[0].name == str(column.argmax())
        np.testing.assert_allclose([c.score for c in classes], np.sort(column)[::-1], rtol=1e-4, atol=1e-6)


def test_pictures_are_made_grey_and_inverted(run, tmp_path):
    image = run.problem.dataset.split("test").images[0][..., 0]
    Image.fromarray(np.stack([255 - image] * 3, -1)).save(tmp_path / "colour.png")
    Image.fromarray(image).save(tmp_path / "plain.png")
    inverted = classify(run.folder.path, [tmp_path / "colour.png"], invert=True)
    assert inverted == classify(run.folder.path, [tmp_path / "plain.png"])


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("size", [(90, 61), (8, 8), (5, 40)])
def test_pictures_become_what_an_import_makes_of_them(tmp_path, size, suffix):
    path = tmp_path / f"odd.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(path)
    for shape in (8, 8, 1), (12, 16, 3):
        np.testing.assert_array_equal(read_picture(path, shape), decoding.decode(path.read_bytes(), shape))


def test_the_longer_side_of_a_picture_is_cropped(tmp_path):
    square = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(np.pad(square, ((0, 0), (3, 3)))).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "wide.png", (8, 8, 1))[..., 0], square)


def test_a_grey_picture_becomes_rgb_for_a_network_that_needs_it(tmp_path):
    wanted = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(wanted).save(tmp_path / "grey.png")
    rgb = read_picture(tmp_path / "grey.png", (2, 3, 3))
    np.testing.assert_array_equal(rgb, np.stack([wanted] * 3, -1))


def test_sixteen_bits_a_pixel_are_read_as_eight_and_floating_point_numbers_not_at_all(tmp_path):
    eight = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    Image.fromarray(eight.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "sixteen.png", (8, 8, 1))[..., 0], eight)
    Image.fromarray(eight / np.float32(255)).save(tmp_path / "float.tiff")
    with pytest.raises(InputError, match=r"float\.tiff: it holds floating-point numbers: store it with"):
        read_picture(tmp_path / "float.tiff", (8, 8, 1))


@pytest.mark.parametrize("values", [[0, 70_000], [-5, 5], [0, 1000]])
def test_whole_numbers_of_32_bits_are_not_read(tmp_path, values):
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "whole.tiff")
    with pytest.raises(InputError, match=r"whole\.tiff: it holds numbers of 32 bits, or with a sign: store"):
        read_picture(tmp_path / "whole.tiff", (1, 2, 1))


def test_sixteen_bits_that_pillow_reads_as_32_are_read(tmp_path):
    (tmp_path / "sixteen.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0, 9, 200, 7]))
    np.testing.assert_array_equal(read_picture(tmp_path / "sixteen.pgm", (1, 2, 1)), [[[0], [200]]])


def test_large_pictures_are_read_without_a_warning_or_said_to_be_too_large(tmp_path, monkeypatch):
    Image.new("1", (9600, 9600)).save(tmp_path / "large.png")  # so large that Pillow warns
    assert read_picture(tmp_path / "large.png", (1, 1, 1)) == 0
    monkeypatch.setattr(decoding, "MOST_PIXELS", 1 << 20)
    with pytest.raises(InputError, match=r"large\.png: it has 9600 x 9600 pixels, more than 1048576"):
        read_picture(tmp_path / "large.png", (1, 1, 1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 20)
    with pytest.raises(InputError, match=r"large\.png: it has more than 1048576 pixels"):
        read_picture(tmp_path / "large.png", (1, 1, 1))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="it is a folder, a pipe or a device: name a file"):
            read_picture(path, (8, 8, 1))


def test_what_is_no_picture_is_said_to_be_none(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png: it is damaged, or no picture"):
        read_picture(tmp_path / "text.png", (8, 8, 1))
    with pytest.raises(InputError, match=r"cannot read the picture .*none\.png: No such file"):
        read_picture(tmp_path / "none.png", (8, 8, 1))
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"cut\.png: it is damaged, or no picture"):
        read_picture(tmp_path / "cut.png", (8, 8, 1))


def test_an_average_is_what_is_measured_stored_and_used(tmp_path):
    settings = {"optimizer": "adam", "learning_rate": 0.05, "steps": 30}
    plain = begin_short(tmp_path / "plain", **settings)
    run = begin_short(tmp_path / "run", average=True, **settings)
    last = go(plain)[0].lines[-1]
    line = go(run)[0].lines[-1]
    assert line.train_loss == last.train_loss
    assert line.test_error != last.test_error
    assert evaluate_run(run.folder.path, "test", threads=1).measured.error == line.test_error
    checkpoint = run.folder.load_checkpoint()
    theta = plain.folder.load_checkpoint().theta
    np.testing.assert_array_equal(checkpoint.theta, averaged(checkpoint.boundary.average, theta, 30))


def test_evaluation_agrees_with_training_and_counts_every_picture(run):
    found = evaluate_run(run.folder.path, "test", threads=1)
    assert found.step == 60
    assert (
        found.measured.error
        == run.problem.task.measure(
            run.folder.load_checkpoint().theta, run.problem.dataset.split("test")
        ).error
    )
    counts = np.bincount(run.problem.dataset.split("test").labels)
    np.testing.assert_array_equal(found.measured.confusion.sum(1), counts)
    assert found.measured.error == pytest.approx(1 - np.trace(found.measured.confusion) / 360)
    assert evaluate_run(run.folder.path, "validation", threads=1).measured.confusion.sum() == 143
