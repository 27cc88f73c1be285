"""Errors planted in the code of the data sets, one at a time: the tests must notice each."""

import pytest

from .planting import Planted, assert_caught

pytestmark = pytest.mark.slow

DATASET = ("tests/data/test_dataset.py",)
AUGMENTATION = ("tests/data/test_augmentation.py",)
STREAMING = ("tests/data/test_streaming.py",)
LABELS_WITH_BAD = (
    "tests/data/test_importing.py::test_with_bad_pictures_a_stopped_import_loses_no_other_and_no_label",
)

PLANTED = [
    Planted("a sample lost", "data/streaming.py", "order[order < n]", "order[order < n - 1]", STREAMING),
    Planted(
        "samples drawn with repetition",
        "data/dataset.py",
        "rng.permutation(self.n_samples)",
        "rng.integers(self.n_samples, size=self.n_samples)",
        DATASET,
    ),
    Planted(
        "resumed one step late",
        "data/dataset.py",
        "count(start_step // n_steps)",
        "count((start_step + 1) // n_steps)",
        DATASET,
    ),
    Planted(
        "rest of a split dropped",
        "data/dataset.py",
        "range(0, self.n_samples, batch_size)",
        "range(0, self.n_samples - batch_size + 1, batch_size)",
        DATASET,
    ),
    Planted(
        "mean of the wrong split",
        "data/dataset.py",
        'survey(arrays["train"][0])',
        'survey(arrays["test"][0])',
        ("tests/data/test_dataset.py::test_rows_and_columns_and_colours_stay_what_they_are",),
    ),
    Planted(
        "mean of the wrong split in a file",
        "data/hdf5.py",
        'moments(histograms["train"])',
        'moments(histograms["test"])',
        ("tests/data/test_hdf5.py::test_layout",),
    ),
    Planted("ranks overlap", "data/dataset.py", "+ 1) * size)", "+ 1) * size + 1)", STREAMING),
    Planted(
        "labels shifted",
        "data/streaming.py",
        "yield step, indices, images[wanted]",
        "yield step, np.roll(indices, 1), images[wanted]",
        STREAMING,
    ),
    Planted(
        "crop of another picture", "data/augmentation.py", "padded[i, row", "padded[i - 1, row", AUGMENTATION
    ),
    Planted(
        "augmentation from the stream of the batches",
        "data/augmentation.py",
        '"augmentation", step',
        '"batches", step',
        AUGMENTATION,
    ),
    Planted(
        "prefetch out of order",
        "data/prefetch.py",
        "queue.Queue(depth)",
        "queue.LifoQueue(depth)",
        ("tests/data/test_prefetch.py",),
    ),
    Planted("paths may lead out", "data/tar.py", ' or ".." in parts', "", ("tests/data/test_tar.py",)),
    Planted(
        "no bound for files",
        "data/places.py",
        "if max(entry.size, entry.stored) > MOST_FILE_BYTES:",
        "if False:",
        ("tests/data/test_places.py::test_sizes_are_bounded_before_unpacking",),
    ),
    Planted(
        "no bound for downloads",
        "data/download.py",
        "if done > self._wanted.most_bytes:",
        "if False:",
        ("tests/data/test_download.py::test_every_address_is_named_with_its_reason",),
    ),
    Planted(
        "checksum of a download not compared",
        "data/download.py",
        "retrieve(url, wanted.known_hash,",
        "retrieve(url, None,",
        ("tests/data/test_download.py::test_the_next_mirror_is_tried",),
    ),
    Planted(
        "checksum of loaded pictures not compared",
        "data/streaming.py",
        'check_digest(f"{split}/images", images_digest(images), contents.digests[split])',
        "pass",
        ("tests/data/test_hdf5.py::test_changed_pictures_are_refused_when_they_are_loaded",),
    ),
    Planted(
        "import goes on at the wrong picture",
        "data/importing.py",
        "range(self.progress.tried[split]",
        "range(self.progress.written[split]",
        LABELS_WITH_BAD,
    ),
    Planted(
        "labels of the skipped pictures kept",
        "data/importing.py",
        "[rows][decoded.good]",
        "[rows][: len(decoded.images)]",
        LABELS_WITH_BAD,
    ),
    Planted(
        "pickles trusted",
        "data/batch_reader.py",
        "_Reader(content).run()",
        "__import__('pickle').loads(content, encoding='bytes')",
        ("tests/data/test_batch_reader.py::test_a_malicious_pickle_does_nothing",),
    ),
]


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_a_planted_error_is_caught(planted, tmp_path):
    assert_caught(planted, tmp_path)
