"""How fast pictures become an HDF5 file, and what that means for the 1.28 million of ILSVRC2012.

    python tests/benchmarks/data_import.py DATA_DIR

DATA_DIR holds Tiny ImageNet (``tiny-imagenet*``) and photos of ILSVRC2012 (``ilsvrc2012*``), or samples
of them; of the photos, a folder of many links to each is imported. The rate per core is that of
pictures per second of CPU time, of all processes together, which neighbours on the machine and a
slow disk do not change.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from l2lnp.data.imagenet import list_imagenet
from l2lnp.data.obtaining import ImportOptions, import_dataset
from l2lnp.data.places import read_entry
from l2lnp.execution import available_cores

N_ILSVRC2012 = 1_281_167 + 50_000
N_LINKS = 50


def cpu_s():
    """CPU time of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def import_rate(name, source, out, size):
    """Import the pictures at ``source``, say how fast, and return pictures per second of CPU time."""
    n, begin = [0], (time.perf_counter(), cpu_s())
    import_dataset(
        name, source, out, ImportOptions(size), lambda done, total: n.append(total), lambda text: None
    )
    wall_s, used_s = time.perf_counter() - begin[0], cpu_s() - begin[1]
    print(
        f"{name} at {size}: {n[-1]:,} pictures, {n[-1] / wall_s:,.0f}/s on {available_cores()} cores, "
        f"{n[-1] / used_s:,.0f}/s a core"
    )
    return n[-1] / used_s


def link_photos(sample, folder):
    """Write the sample's photos and some links to each; return the folder that holds the links."""
    pictures = list_imagenet(sample).splits["train"]
    for i in range(len(pictures)):
        original = folder / f"{i}.JPEG"
        original.write_bytes(read_entry(pictures[i]))
        place = folder / "photos" / "train" / pictures[i].name.split("/")[-2]
        place.mkdir(parents=True, exist_ok=True)
        for link in range(N_LINKS):
            (place / f"{i}_{link}.JPEG").symlink_to(original)
    return folder / "photos"


def report(data_dir, folder):
    for source in list(data_dir.glob("tiny-imagenet*"))[:1]:
        import_rate("tiny-imagenet", source, folder / "tiny.h5", 64)
    for sample in list(data_dir.glob("ilsvrc2012*"))[:1]:
        photos = link_photos(sample, folder)
        for size in (64, 224):
            rate = import_rate("imagenet", photos, folder / f"photos{size}.h5", size)
            gigabytes = N_ILSVRC2012 * size * size * 3 / 1e9
            print(
                f"  all {N_ILSVRC2012:,} of ILSVRC2012: {N_ILSVRC2012 / rate / 3600:.1f} core hours, "
                f"{gigabytes:.0f} GB"
            )
    most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"most memory of the main process: {most_mb:,.0f} MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        report(Path(sys.argv[1]), Path(name))
