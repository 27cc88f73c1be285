"""ImageNet, Tiny ImageNet, own folders: every form lists the same pictures with the same classes."""

import gzip
import io

import numpy as np
import pytest
import scipy.io
from data_files import is_sentence, outcome, tar_bytes, write_tree
from hypothesis import given
from hypothesis import strategies as st

from l2lnp.data.folder import list_folder
from l2lnp.data.imagenet import list_imagenet, read_meta
from l2lnp.data.places import read_entry
from l2lnp.data.tiny_imagenet import list_tiny_imagenet
from l2lnp.errors import InputError

WNIDS = ["n00000002", "n00000001", "n00000003"]  # in the order of the kit's numbers 1, 2, 3


def meta_mat(wnids=WNIDS, compress=True):
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
    synsets = np.zeros((len(wnids), 1), kinds)
    for i, wnid in enumerate(wnids):
        synsets[i, 0] = (i + 1, wnid, f"thing {wnid[-1]}, object")
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": synsets}, do_compression=compress)
    return buffer.getvalue()


TRAIN = {f"{wnid}/{wnid}_{i}.JPEG": f"{wnid} {i}".encode() for wnid in WNIDS for i in range(2)}
TRUTH = [2, 3, 1, 1]
VALIDATION = {f"ILSVRC2012_val_{i + 1:08}.JPEG": f"{WNIDS[t - 1]} val".encode() for i, t in enumerate(TRUTH)}
TRUTH_FILE = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
META_FILE = "ILSVRC2012_devkit_t12/data/meta.mat"
KIT = {TRUTH_FILE: "\n".join(map(str, TRUTH)).encode() + b"\n", META_FILE: meta_mat()}


def under(folder, files):
    return {f"{folder}/{name}": content for name, content in files.items()}


def class_tars():
    return {
        f"{wnid}.tar": tar_bytes({n.partition("/")[2]: c for n, c in TRAIN.items() if n.startswith(wnid)})
        for wnid in WNIDS
    }


def sorted_validation():
    pairs = zip(TRUTH, VALIDATION.items(), strict=True)
    return {f"{WNIDS[t - 1]}/{name}": content for t, (name, content) in pairs}


FORMS = {
    "folders": under("train", TRAIN) | under("val", VALIDATION) | KIT,
    "deeper": under("ILSVRC/Data/CLS-LOC/train", TRAIN) | under("ILSVRC/Data/CLS-LOC/val", VALIDATION) | KIT,
    "sorted": under("train", TRAIN) | under("val", sorted_validation()),
    "renamed": under("train", TRAIN)
    | under("val", {n.replace("ILSVRC2012_val_", "v"): c for n, c in sorted_validation().items()}),
    "official": {
        "ILSVRC2012_img_train.tar": tar_bytes(class_tars()),
        "ILSVRC2012_img_train_t3.tar": tar_bytes(
            {"n00000001.tar": tar_bytes({"n00000001_0.JPEG": b"twice"})}
        ),
        "ILSVRC2012_img_val.tar": tar_bytes(VALIDATION),
        "ILSVRC2012_devkit_t12.tar.gz": gzip.compress(tar_bytes(KIT)),
        "ILSVRC2012_bbox_train_v2.tar.gz": b"not looked at",
    },
    "class tars": {
        f"train/{w}.tar": tar_bytes({f"{w}_{i}.JPEG": f"{w} {i}".encode() for i in range(2)}) for w in WNIDS
    }
    | under("val", sorted_validation()),
}


def listed(pictures, split):
    """The content and the class of every picture, in a fixed order."""
    entries = pictures.splits[split]
    labels = entries.labels(pictures.class_ids)
    return sorted((read_entry(entries[i]), pictures.class_ids[labels[i]]) for i in range(len(entries)))


@pytest.mark.parametrize("archive", [False, True], ids=["folder", "tar"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_imagenet(tmp_path, form, archive):
    path = tmp_path / "imagenet"
    if archive:
        path.write_bytes(tar_bytes(FORMS[form]))
    else:
        write_tree(path, FORMS[form])
    pictures = list_imagenet(path)
    assert pictures.class_ids == sorted(WNIDS)
    assert listed(pictures, "train") == sorted((c, n.partition("/")[0]) for n, c in TRAIN.items())
    assert listed(pictures, "test") == sorted((c, c.decode().partition(" ")[0]) for c in VALIDATION.values())
    named = any("devkit" in name for name in FORMS[form])
    assert pictures.class_names[0] == ("n00000001 thing 1, object" if named else "n00000001")


def test_the_training_archive_alone(tmp_path):
    path = tmp_path / "ILSVRC2012_img_train.tar"
    path.write_bytes(tar_bytes(class_tars()))
    pictures = list_imagenet(path)
    assert len(pictures.splits["train"]) == 6
    assert (len(pictures.splits["test"]), pictures.notes) == (0, [])


def test_a_subset_of_the_classes_leaves_out_the_others(tmp_path):
    some = {name: content for name, content in TRAIN.items() if WNIDS[0] not in name}
    pictures = list_imagenet(write_tree(tmp_path, under("train", some) | under("val", VALIDATION) | KIT))
    assert [c for _, c in listed(pictures, "test")] == ["n00000001", "n00000003"]
    assert pictures.notes == ["2 test pictures of classes without training pictures are left out"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({META_FILE: None}, r"no meta\.mat: add the development kit"),
        (
            {"ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": None},
            "no ILSVRC2012_validation",
        ),
        (
            {"ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"1\n2\n"},
            "say no class for",
        ),
        (
            {"ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"9\n" * 4},
            "say no class for",
        ),
        (
            {"ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"x\n" * 4},
            "one class number a line",
        ),
        ({META_FILE: b"MATLAB 5.0"}, r"meta\.mat\) is damaged"),
        ({META_FILE: meta_mat(["dog", "cat"])}, "no wnids"),
        (dict.fromkeys(under("train", TRAIN)), "no training pictures in the layout of imagenet"),
    ],
)
def test_refuses_an_incomplete_imagenet(tmp_path, change, message):
    files = {n: c for n, c in (FORMS["folders"] | change).items() if c is not None}
    with pytest.raises(InputError, match=message):
        list_imagenet(write_tree(tmp_path, files))


@pytest.mark.parametrize("compress", [False, True])
def test_meta_is_read_packed_or_plain(compress):
    wnids, words = read_meta(meta_mat(compress=compress), "meta.mat")
    assert wnids == {1: WNIDS[0], 2: WNIDS[1], 3: WNIDS[2]}
    assert words["n00000003"] == "thing 3, object"


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
def test_every_mutated_meta_is_read_or_refused(seed, n_changes, compress):
    rng = np.random.default_rng(seed)
    content = bytearray(meta_mat(compress=compress))
    for _ in range(n_changes):
        content[rng.integers(len(content))] = rng.integers(256)
    found = outcome(read_meta, bytes(content), "meta.mat")
    assert is_sentence(found) or len(found) == 2


def test_the_sample_of_imagenet(data_dir):
    path = data_dir / "ilsvrc2012-sample.tar"
    if not path.exists():
        pytest.skip("no sample of ILSVRC2012 in the folder with data")
    pictures = list_imagenet(path)
    assert len(pictures.splits["train"]) == 23
    assert pictures.class_names[0] == "n01440764 tench, Tinca tinca"


TINY = {
    **{f"tiny/train/{w}/images/{w}_{i}.JPEG": f"{w} {i}".encode() for w in WNIDS for i in range(2)},
    **{f"tiny/train/{w}/{w}_boxes.txt": b"0 0 1 1" for w in WNIDS},
    **{f"tiny/val/images/val_{i}.JPEG": f"{WNIDS[t - 1]} val".encode() for i, t in enumerate(TRUTH)},
    "tiny/val/val_annotations.txt": b"".join(
        f"val_{i}.JPEG\t{WNIDS[t - 1]}\t0\t0\t9\t9\n".encode() for i, t in enumerate(TRUTH)
    ),
    "tiny/test/images/test_0.JPEG": b"no label",
    "tiny/wnids.txt": "\n".join(WNIDS).encode(),
    "tiny/words.txt": b"n00000001\tone, the first\nn00000009\tnot here\n",
}


@pytest.mark.parametrize("inner", ["", "tiny"])
def test_tiny_imagenet(tmp_path, inner):
    pictures = list_tiny_imagenet(write_tree(tmp_path, TINY) / inner)
    assert listed(pictures, "train") == sorted(
        (c, n.split("/")[2]) for n, c in TINY.items() if "/train/" in n and "JP" in n
    )
    assert [c for _, c in listed(pictures, "test")] == ["n00000001", "n00000002", "n00000002", "n00000003"]
    assert pictures.class_names == ["n00000001 one, the first", "n00000002", "n00000003"]


def test_refuses_validation_pictures_without_a_class(tmp_path):
    with pytest.raises(InputError, match=r"says no class for val_0\.JPEG"):
        list_tiny_imagenet(write_tree(tmp_path, TINY | {"tiny/val/val_annotations.txt": b""}))


OWN = {
    "train/cat/1.png": b"1",
    "train/cat/2.JPG": b"2",
    "train/dog/x.jpeg": b"3",
    "train/notes.txt": b"",
    "train/cat/x.gif": b"",
}


LEFT_OUT = "2 files that are no .png or .jpg in <split>/<class>/ are left out, the first: 'train/cat/x.gif'"


@pytest.mark.parametrize(
    ("split", "notes"), [("test", []), ("val", ["the pictures in val become the group test"])]
)
def test_own_pictures(tmp_path, split, notes):
    pictures = list_folder(write_tree(tmp_path, OWN | {f"{split}/dog/y.png": b"4"}))
    assert listed(pictures, "train") == [(b"1", "cat"), (b"2", "cat"), (b"3", "dog")]
    assert listed(pictures, "test") == [(b"4", "dog")]
    assert pictures.class_names == ["cat", "dog"]
    assert pictures.notes == [LEFT_OUT, *notes]
    assert pictures.name == tmp_path.name


@pytest.mark.parametrize(
    "name",
    ["train/bird/1.webp", "train/cat/deep/er.png", "train/loose.png", "training/cat/1.png", "LICENSE"],
)
def test_every_file_that_is_left_out_is_counted(tmp_path, name):
    files = {"train/cat/1.png": b"1", "test/cat/2.png": b"2", name: b"3", "train/cat/.hidden": b""}
    pictures = list_folder(write_tree(tmp_path, files))
    assert pictures.notes == [
        f"1 file that is no .png or .jpg in <split>/<class>/ is left out, the first: '{name}'"
    ]


def test_empty_folders_are_told(tmp_path):
    write_tree(tmp_path, {"train/cat/1.png": b"1", "test/cat/2.png": b"2"})
    for name in ("train/dog", "test/dog"):
        (tmp_path / name).mkdir()
    notes = list_folder(tmp_path).notes
    assert notes == ["2 empty folders are no classes, the first: 'test/dog'"]


def test_a_folder_whose_name_cannot_be_shown(tmp_path):
    pictures = list_folder(write_tree(tmp_path / "a\udcff", {"train/cat/1.png": b"1"}))
    assert (pictures.name, pictures.provenance) == ("folder", "own pictures, from the folder folder")


def test_both_test_and_val_use_test(tmp_path):
    pictures = list_folder(write_tree(tmp_path, OWN | {"test/dog/y.png": b"4", "val/dog/z.png": b"5"}))
    assert listed(pictures, "test") == [(b"4", "dog")]
    assert pictures.notes == [LEFT_OUT, "the pictures in val are not used"]


@pytest.mark.parametrize("top", ["", "pets/"])
def test_without_folders_of_splits_all_are_training_pictures(tmp_path, top):
    files = {f"{top}cat/1.png": b"1", f"{top}dog/2.jpg": b"2", f"{top}dog/deep/er.gif": b"", "read.me": b""}
    pictures = list_folder(write_tree(tmp_path, files))
    assert listed(pictures, "train") == [(b"1", "cat"), (b"2", "dog")]
    assert pictures.notes[0].startswith("2 files that are no .png or .jpg in <class>/ are left out")
    assert len(pictures.splits["test"]) == 0


def numbered(n_of_class):
    return {f"{c}/{i:02}.png": f"{c}{i}".encode() for c, n in n_of_class.items() for i in range(n)}


def test_held_out_are_pictures_of_every_class_whatever_else_there_is(tmp_path):
    sizes = {"cat": 20, "dog": 2, "one": 1}
    few = list_folder(write_tree(tmp_path / "a", numbered(sizes)))
    other = list_folder(write_tree(tmp_path / "b", numbered({"ant": 7, "cat": 20})))
    everything = listed(few, "train")
    for pictures in few, other:
        pictures.hold_out(0.2)
    assert [c for _, c in listed(few, "test")] == ["cat"] * 4 + ["dog"]
    assert sorted(listed(few, "train") + listed(few, "test")) == everything
    cats = [[content for content, c in listed(p, "test") if c == "cat"] for p in (few, other)]
    assert cats[0] == cats[1] != [f"cat{i}".encode() for i in range(4)]
    assert "5 of the 23 training pictures become them, 0.2 of each class" in few.notes[-1]


def test_refuses_folders_in_another_layout(tmp_path):
    with pytest.raises(InputError, match="no training pictures in the layout of folder: <class>/"):
        list_folder(write_tree(tmp_path / "a", {"train/1.png": b"", "loose.png": b""}))
    with pytest.raises(InputError, match=r"lie in .*/Testing, .*/Training: name these train and test"):
        list_folder(write_tree(tmp_path / "d", {"Testing/cat/1.png": b"", "Training/cat/2.png": b""}))
    with pytest.raises(InputError, match="test has pictures of 'bird', a class without"):
        list_folder(write_tree(tmp_path / "b", OWN | {"test/bird/1.png": b""}))
    with pytest.raises(InputError, match="whose name cannot be shown"):
        list_folder(write_tree(tmp_path / "c", {"train/ca\nt/1.png": b""}))
