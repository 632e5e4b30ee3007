"""A folder of pictures."""

import os
from pathlib import Path

from PIL import Image

from pixelsr.utils.atomic_write import real_path

from .fingerprint import file_facts, fingerprint
from .pictures import open_picture


class Folder:
    """Every file below a folder, in the order of the sorted paths; hidden ones are passed over.

    Links to folders are followed. A folder that several paths lead to is read once: by the path
    without links, else by the first link in the order of the paths.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.paths = root, sorted(_files(root))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        path = self.paths[index]
        return str(path), open_picture(path)

    def fingerprint(self) -> str:
        facts = (f"{path.relative_to(self.root)} {file_facts(path)}" for path in self.paths)
        return fingerprint([real_path(self.root), *facts])


def _files(root: Path) -> list[Path]:
    files: list[Path] = []
    seen: set[str] = set()
    starts = [root]
    while starts:
        links: list[Path] = []
        for start in starts:
            for folder, folders, names in os.walk(start):  # follows no link below its start
                if (real := os.path.realpath(folder)) in seen:
                    folders.clear()
                    continue
                seen.add(real)
                folders[:] = [name for name in folders if not name.startswith(".")]
                links += [Path(folder, name) for name in folders if Path(folder, name).is_symlink()]
                files += [Path(folder, name) for name in names if not name.startswith(".")]
        starts = sorted(links)
    return files
