"""Makes a run folder of published weights: of the Sensorium kits, DwiseNeuro, or ViV1T.

    python scripts/import_checkpoint.py sensorium_sota_model.pth --out runs/released
    python scripts/import_checkpoint.py fold_0/model-017-0.290000.pth --out runs/dwiseneuro

FILE is one of PyTorch or .safetensors; of ViV1T it is the checkpoint model_state.pt (2023) or the
model's state dict (2025). It is read without PyTorch, and nothing in it is executed. Which model it
holds is found out from names and shapes. The run folder is one like any other:
`python -m sensojax.evaluate --workdir runs/released --stores data/stores --tier test` scores it.
With `--stores` the mice are compared with the stores of their recordings at once. What the file
does not say is asked for; `--set` gives it, and changes any other setting (--set core.linear=true).
"""

import argparse
import ast
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs import dynamic, dynamic_dwiseneuro, dynamic_viv1t, static
from sensojax import errors
from sensojax.experiments import exchange

# What weights do not say of a model, by `told.Architecture.page`.
PAGES = dict(
    images=(static, "sensorium"),
    videos=(dynamic, "sensorium"),
    dwiseneuro=(dynamic_dwiseneuro, "sensorium"),
    viv1t2023=(dynamic_viv1t, "sensorium2023"),
    viv1t2025=(dynamic_viv1t, "sensorium2025"),
)


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    made = exchange.import_run(
        args.file,
        args.out,
        pages(),
        changes={name: _value(text) for name, text in _pairs(args.set, "--set").items()},
        mice=_pairs(args.mouse, "--mouse"),
        stores=args.stores,
        frame_size=_size(args.frame_size),
        leave_out=args.leave_out,
        part=args.part,
    )
    core, mice = made.about["config"]["core"], made.about["mice"]
    print(f"{args.out}: {_described(core)}")
    for mouse, about in mice.items():
        known = "its store fits" if args.stores else "not compared with a store"
        print(f"  mouse {mouse}: {about['neurons']:,} neurons, {known}")
    if made.assumed:
        said = ", ".join(f"{name}={value}" for name, value in made.assumed.items())
        print(f"Not in the file, and assumed as in all published models (--set): {said}")
    if made.unused:
        print(f"Left out: {', '.join(made.unused)}")


def pages() -> dict[str, dict]:
    return {name: page.get_config(preset).to_dict() for name, (page, preset) in PAGES.items()}


def _described(core: dict) -> str:
    """A core in a few words: its name, how many layers or blocks it has."""
    if "channels" in core:
        nonlinear = "without" if core.get("linear") else "with"
        return f"{core['name']}, {len(core['channels'])} layers, {nonlinear} nonlinearities"
    if core["name"] == "dwiseneuro":
        return f"dwiseneuro, {len(core['features'])} blocks of {core['expansion']}-fold width"
    blocks = f"{core['spatial_blocks']} blocks in space and {core['temporal_blocks']} in time"
    return f"{core['name']}, {blocks} of {core['heads']} heads"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a PyTorch file (.pth) or .safetensors file")
    parser.add_argument("--out", type=Path, required=True, help="the run folder, a new one")
    parser.add_argument("--stores", default="", help="folder of the mice's stores")
    parser.add_argument(
        "--mouse",
        action="append",
        default=[],
        metavar="FILE=STORE",
        help="the store's name of a mouse that is called FILE in the file; may be given often",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.SETTING=VALUE",
        help="a setting of the config; may be given often",
    )
    parser.add_argument(
        "--frame-size", default="36x64", help="height and width of a frame as the model sees it"
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="PREFIX",
        help="arrays whose names begin so are not needed; may be given often",
    )
    parser.add_argument("--part", default="", help="name of the weights, of several in the file")
    return parser


def _pairs(given: list[str], option: str) -> dict[str, str]:
    """{left: right} of arguments such as left=right."""
    pairs = [each.partition("=") for each in given]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise errors.UserError(f"found {option} {name}{equals}{value}, expected NAME=VALUE.")
    return {name: value for name, _, value in pairs}


def _value(text: str):
    """A number, truth value or tuple as one writes it in a config, else the text itself."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _size(text: str) -> tuple[int, int]:
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise errors.UserError(f"found --frame-size {text}, expected HEIGHTxWIDTH such as 36x64.")
    return int(parts[0]), int(parts[1])


if __name__ == "__main__":
    main()
