"""The first page on a model is drawn whatever is known of its neurons, and says what it shows."""

import dataclasses

import numpy as np
import pytest

from sensojax.insilico import first_look

NEURONS, SOME = 30, 12


def look(**changes) -> first_look.Look:
    rng = np.random.default_rng(0)
    made = first_look.Look(
        title="run, mouse 1-2-3",
        stills=rng.normal(size=(5, 12, 20)),
        labels=[f"image {i}" for i in range(5)],
        deviations=rng.normal(size=(5, NEURONS)),
        num_reference=40,
        cortex=rng.uniform(-1, 1, (NEURONS, 2)),
        unit=" (µm)",
        centres=rng.uniform(0, 12, (NEURONS, 2)),
        chosen=np.arange(SOME),
        derivatives=rng.normal(size=(SOME, 12, 20)),
        field_centres=rng.uniform(3, 9, (SOME, 2)),
        reach=np.r_[np.nan, rng.uniform(1, 4, SOME - 1)],
        degrees_per_pixel=3.0,
    )
    return dataclasses.replace(made, **changes)


def words(page) -> str:
    """All that a figure says."""
    said = [text.get_text() for text in page.findobj(lambda each: hasattr(each, "get_text"))]
    return " ".join(said)


def test_the_page_names_what_it_shows():
    page = first_look.figure(look())
    said = words(page)
    for expected in (
        "run, mouse 1-2-3", "30 neurons", "over 40 images", "image 4", "x in cortex (µm)",
        "horizontal position (pixel)", "x in the image (pixel)", "of 11 neurons", "°)",
    ):  # fmt: skip
        assert expected in said, expected
    reach = look().reach
    assert f"median {np.nanmedian(reach):.1f} px ({3 * np.nanmedian(reach):.0f}°)" in said


@pytest.mark.parametrize(
    ("changes", "said", "unsaid"),
    [
        pytest.param(
            dict(cortex=None, degrees_per_pixel=0.0),
            "positions in cortex not known",
            "°",
            marks=pytest.mark.slow,
        ),
        (dict(cortex=None, centres=None), "x in the order of the file", "Where in the image"),
        pytest.param(
            dict(reach=np.full(SOME, np.nan)), "of 0 neurons", "median", marks=pytest.mark.slow
        ),
    ],
)
def test_parts_that_are_not_known_are_left_out(changes, said, unsaid):
    found = words(first_look.figure(look(**changes)))
    assert said in found and unsaid not in found
