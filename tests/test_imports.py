"""The structure of the whole: who may import whom, and how every file begins.

The table is that of the design: each part of the package (a folder or a file beside it) with its
level and the parts it may import. Files are read and parsed here, never imported.
"""

import ast
import configparser
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = "sensojax"

# part: (level, the parts it may import besides itself and level 0)
TABLE = {
    "__init__": (0, ""),  # `import sensojax`, for its version
    "errors": (0, ""),
    "progress": (0, ""),
    "types": (0, ""),
    "writing": (0, ""),
    "recordings": (1, "statistics stimuli"),  # the simulated ones show stimuli
    "statistics": (1, ""),
    "stimuli": (1, ""),
    "zarrs": (2, ""),
    "tables": (2, ""),
    "store": (2, "tables zarrs"),
    "conversion": (2, "store tables zarrs statistics"),
    "pipeline": (3, "store stimuli"),  # folds by what was shown
    "models": (4, ""),
    "losses": (5, ""),
    "moments": (5, ""),
    "metrics": (5, "losses moments"),
    "reliability": (5, "metrics"),
    "repeats": (5, "metrics reliability"),
    "image_scores": (5, "metrics reliability repeats"),
    "training": (6, "models"),  # a step takes a model apart and puts it together
    "evaluation": (6, "pipeline metrics reliability repeats image_scores"),
    "insilico": (6, "models stimuli metrics evaluation"),  # whose figures its own look like
    "interop": (6, "models"),
    "spikes": (6, "zarrs"),
    "build": (
        7,
        "recordings stimuli store conversion pipeline models losses moments metrics reliability "
        "repeats image_scores training evaluation insilico interop spikes",
    ),
    "experiments": (
        8,
        "build recordings stimuli store models pipeline training evaluation insilico interop",
    ),
    "main": (9, "build experiments training evaluation"),
    "ensemble": (9, "build main experiments training evaluation pipeline"),
    "ablate": (9, "build main experiments training evaluation"),
    "evaluate": (9, "build experiments training evaluation pipeline"),
    "predict": (9, "experiments training"),
    "submit": (9, "experiments store training evaluation pipeline"),
    "tools": (
        9,
        "experiments recordings stimuli store zarrs conversion statistics pipeline evaluation "
        "spikes",
    ),
}
LEVEL = {part: level for part, (level, _) in TABLE.items()}
ALLOWED = {
    part: {part, *below.split(), *(p for p in TABLE if LEVEL[p] == 0 and level > 0)}
    for part, (level, below) in TABLE.items()
}
LONGEST = {"sensojax": 400, "configs": 400, "scripts": 400, "tests": 500}  # lines of one file
# Distributions that are imported by another name than the one they are installed by.
IMPORTED_AS = {"orbax_checkpoint": "orbax", "absl_py": "absl"}


@dataclass(frozen=True)
class Import:
    """One imported module and where this is written."""

    importer: str
    imported: str
    where: str


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Every import of a file, also those inside functions; relative ones keep their dots."""
    name = module_name(path, root)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, where)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                base = "." * node.level + (node.module or "")
                yield Import(name, f"{base}.{alias.name}", where)


def inner_imports(root: Path) -> list[Import]:
    """The imports between modules of the package in `root`, by the modules' full names."""
    paths = sorted((root / PACKAGE).rglob("*.py"))
    modules = {module_name(path, root) for path in paths}
    found = []
    for path in paths:
        for each in imports_of(path, root):
            if each.imported.split(".")[0] in (PACKAGE, ""):
                # `from package import name`: the name is a module, or stands in one.
                is_module = each.imported in modules
                target = each.imported if is_module else each.imported.rpartition(".")[0]
                found.append(Import(each.importer, target, each.where))
    return found


def part_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def offences(root: Path) -> list[str]:
    """What the table forbids, each as one line that begins with file:line."""
    found = []
    for each in inner_imports(root):
        importer, imported = part_of(each.importer), part_of(each.imported)
        if each.imported.startswith(".") or not each.imported:
            found.append(f"{each.where}: a relative import; write the full name")
        elif importer not in TABLE or imported not in ALLOWED[importer]:
            found.append(f"{each.where}: {importer} may not import {imported}")
    return found


def circle(root: Path) -> list[str]:
    """The modules of one circle of imports, in order, or nothing."""
    edges: dict[str, set[str]] = {}
    for each in inner_imports(root):
        edges.setdefault(each.importer, set()).add(each.imported)
    finished: set[str] = set()

    def search(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in finished:
            return []
        for target in sorted(edges.get(module, ())):
            if found := search(target, [*trail, module]):
                return found
        finished.add(module)
        return []

    return next((found for module in sorted(edges) if (found := search(module, []))), [])


def opens_with_a_paragraph(path: Path) -> bool:
    """Whether a file begins with a docstring whose first paragraph is a whole sentence."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = docstring.split("\n\n")[0].strip()
    return len(first.split()) >= 5 and first[-1] in ".:"


def test_imports_flow_downhill():
    assert not (found := offences(REPOSITORY)), "\n".join(found)


def test_no_modules_import_each_other_in_a_circle():
    assert not (found := circle(REPOSITORY)), " -> ".join(found)


def test_every_part_of_the_package_stands_in_the_table():
    parts = {part_of(module_name(path, REPOSITORY)) for path in python_files(PACKAGE)}
    assert parts <= set(TABLE), f"give a level to {', '.join(sorted(parts - set(TABLE)))}"


def test_the_table_itself_flows_downhill():
    for part, (level, below) in TABLE.items():
        uphill = [each for each in below.split() if LEVEL[each] > level]
        assert not uphill, f"{part} is on level {level} and may import {uphill}"
        assert part not in below.split()


def test_training_and_evaluation_never_import_each_other():
    assert "evaluation" not in ALLOWED["training"] and "training" not in ALLOWED["evaluation"]


def test_models_know_nothing_of_data_losses_or_metrics():
    assert ALLOWED["models"] == {"models", "types", "errors", "progress", "writing", "__init__"}


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("models/cores/bad.py", "\nfrom sensojax import metrics\n", "bad.py:2: models"),
        ("models/bad.py", "import sensojax.training.step\n", "bad.py:1: models"),
        ("losses.py", "def f():\n    from sensojax.store import TrialStore\n", "losses.py:2"),
        ("errors.py", "from sensojax.types import Trial\n", "errors may not import types"),
        ("training/bad.py", "from .. import metrics\n", "bad.py:1: a relative import"),
        ("training/bad.py", "from . import step\n", "bad.py:1: a relative import"),
        ("unheard_of.py", "from sensojax import types\n", "unheard_of may not import types"),
    ],
)
def test_an_import_against_the_table_is_named_with_its_line(tmp_path, file, text, complaint):
    for name in ("types", "metrics", "store", "training/step"):
        write(tmp_path, f"{name}.py", "")
    assert offences(tmp_path) == []
    write(tmp_path, file, text)
    (found,) = offences(tmp_path)
    assert complaint in found


def test_a_circle_of_imports_is_found(tmp_path):
    write(tmp_path, "models/a.py", "from sensojax.models.b import thing\n")
    write(tmp_path, "models/b.py", "def f():\n    from sensojax.models import c\n")
    assert circle(tmp_path) == []
    write(tmp_path, "models/c.py", "import sensojax.models.a\n")
    assert circle(tmp_path) == [f"sensojax.models.{each}" for each in "abca"]


def write(root: Path, file: str, text: str) -> None:
    path = root / PACKAGE / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_file_parses():
    for path in python_files(*LONGEST):
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_every_module_opens_with_a_paragraph():
    lacking = [
        str(path.relative_to(REPOSITORY))
        for path in python_files(PACKAGE, "configs", "scripts")
        if not opens_with_a_paragraph(path)
    ]
    assert not lacking, f"no opening paragraph in {', '.join(lacking)}"


def test_no_file_is_too_long_to_read():
    for folder, limit in LONGEST.items():
        for path in python_files(folder):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= limit, f"{path.relative_to(REPOSITORY)} has {lines} lines"


def declared(*extras: str) -> set[str]:
    """Names under which the distributions that setup.cfg asks for are imported."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    wanted = setup["options"]["install_requires"].splitlines()
    for extra in extras:
        wanted += setup["options.extras_require"][extra].splitlines()
    names = [line.split(">")[0].split("[")[0].strip().replace("-", "_") for line in wanted]
    return {IMPORTED_AS.get(name, name) for name in names if name}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("sensojax", ("cluster", "logging")), ("configs", ()), ("tests", ("test",))],
)
def test_only_declared_packages_are_imported(folder, extras):
    known = declared(*extras) | set(sys.stdlib_module_names) | set(LONGEST)
    for path in python_files(folder):
        for each in imports_of(path, REPOSITORY):
            top = each.imported.split(".")[0]
            assert top in known, f"{each.where}: setup.cfg does not ask for {top}"


def test_torch_is_never_a_dependency():
    assert "torch" not in declared("cuda", "tpu", "test", "cluster", "logging")
