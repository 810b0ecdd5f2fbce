"""What comes with the package: recipes and studies (list, show, copy), and a small trained teacher."""

from __future__ import annotations

from pathlib import Path

from docstill.errors import UserError, nearest
from docstill.files import atomic

FOLDER = Path(__file__).parent / "recipes"
STUDIES = FOLDER / "studies"
TEACHERS = Path(__file__).parent / "teachers"
SHIPPED = "shipped:"
"""Before the name of a model that comes with docstill."""


def recipes(folder: Path = FOLDER) -> dict[str, str]:
    """Names of the shipped recipes (or, in `STUDIES`, studies), with the first comment line of each."""
    return {path.stem: _about(path) for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str, folder: Path = FOLDER) -> Path:
    """The file ``name``, or the shipped recipe (or study) of that name.

    Raises:
        UserError: neither exists.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = folder / f"{path.stem}.yaml"
    if len(path.parts) == 1 and shipped.is_file():
        return shipped
    raise UserError(
        f"there is no recipe {name}; give a YAML file or one of {', '.join(recipes(folder))}{nearest(path.stem, recipes(folder))}"
    )


def find_teacher(name: str) -> Path:
    """The model folder of the shipped teacher of that name.

    Raises:
        UserError: there is none.
    """
    folder = TEACHERS / name
    if not (folder / "config.json").is_file():
        known = sorted(path.name for path in TEACHERS.glob("*") if path.is_dir())
        raise UserError(f"no teacher {name} is shipped; choose one of {', '.join(known)}")
    return folder


def located(source: str) -> str:
    """The folder of a shipped model where ``shipped:NAME`` stands; anything else as it is.

    Raises:
        UserError: none of that name is shipped.
    """
    return str(find_teacher(source.removeprefix(SHIPPED))) if source.startswith(SHIPPED) else source


def find_any(name: str) -> Path:
    """A shipped study of that name, else as `find_recipe`."""
    return STUDIES / f"{name}.yaml" if name in recipes(STUDIES) else find_recipe(name)


def copy_recipe(name: str, target: Path) -> Path:
    """Copies a shipped recipe out, for editing; never overwrites.

    Raises:
        UserError: no such recipe, or the target exists or cannot be written.
    """
    source = find_any(name)
    path = target / source.name if target.is_dir() else target
    if path.exists():
        raise UserError(f"{path} exists and is not overwritten; give another name")
    with atomic(path) as file:
        file.write(source.read_bytes())
    return path


def _about(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and line.strip("# ") and not line.strip("# ").startswith("docstill "):
            return line.strip("# ")
    return ""
