"""Sets labels aside: of each class some training pages keep theirs, all others lie in one folder, without any.

python benchmarks/unlabelled/split.py PAGES OUT SHARE
"""

from __future__ import annotations

import random
import sys
from pathlib import Path


def main(pages: Path, out: Path, share: float) -> None:
    rng = random.Random(0)
    kept = others = 0
    for label in sorted(folder for folder in (pages / "train").iterdir() if folder.is_dir()):
        files = sorted(file for file in label.iterdir() if file.is_file())
        rng.shuffle(files)
        count = max(2, round(share * len(files)))
        for number, file in enumerate(files):
            with_label = number < count
            target = (
                out / "labelled" / label.name / file.name
                if with_label
                else out / "others" / f"{label.name}-{file.name}"
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.resolve())
            kept, others = kept + with_label, others + (not with_label)
    print(f"{kept} pages with labels, {others} without")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
