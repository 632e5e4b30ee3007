"""A folder of pictures."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from .fingerprint import file_facts, fingerprint
from .pictures import open_picture


class Folder:
    """Every file below a folder, in the order of the sorted paths; hidden ones are passed over."""

    def __init__(self, root: Path) -> None:
        self.root, self.paths = root, list(_files(root))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        path = self.paths[index]
        return str(path), open_picture(path)

    def fingerprint(self) -> str:
        facts = (f"{path.relative_to(self.root)} {file_facts(path)}" for path in self.paths)
        return fingerprint([self.root.resolve(), *facts])


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and not path.is_dir():
            yield path
