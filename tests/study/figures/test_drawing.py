"""What the pictures draw is what the arrays say."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb

from emastudy.em.mixtures import MixtureParameters
from emastudy.study.figures import drawing


def test_errors_are_orange_right_is_white_and_ignored_is_grey():
    mask = np.array([[0, 1, 255]], dtype=np.uint8)
    drawn = drawing.error_map(mask, np.array([[0, 0, 0]], dtype=np.uint8))
    assert drawn[0, 0].tolist() == [255, 255, 255]
    assert drawn[0, 1].tolist() == [213, 94, 0]
    assert len(set(drawn[0, 2])) == 1
    assert drawn[0, 2, 0] < 255


def test_rows_of_predictions_name_their_pictures_and_colours():
    image, mask = np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), np.uint8)
    figure = drawing.prediction_rows(
        [image] * 2,
        [mask] * 2,
        {"FCN": [mask, mask], "EMA": [mask, mask + 1]},
        classes=("sky", "road"),
        colors=[(1, 2, 3), (4, 5, 6)],
        labels=["image 3", "image 9"],
        title="Predictions",
    )
    axes = np.array(figure.axes).reshape(2, 6)
    titles = [ax.get_title() for ax in axes[0]]
    assert titles == ["photograph", "truth", "FCN", "errors of FCN", "EMA", "errors of EMA"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["image 3", "image 9"]
    drawn = axes[1, 4].images[0].get_array()
    assert (drawn == (4, 5, 6)).all()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["sky", "road", "wrong"]
    plt.close(figure)


def test_gaussians_are_drawn_with_the_widths_and_angles_of_their_covariances():
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    spread = turn @ torch.diag(torch.tensor([9.0, 1.0])) @ turn.T
    parameters = MixtureParameters(
        torch.zeros(2, 2), torch.stack([spread, torch.eye(2)]), torch.full((2,), 0.5)
    )
    figure, ax = plt.subplots()
    colors = drawing.gaussians(ax, np.zeros((3, 2)), np.eye(2)[[0, 1, 1]], parameters)
    assert np.allclose(colors[0], to_rgb("C0"))
    assert np.allclose(colors[1:], to_rgb("C1"))
    one, two, *_ = ax.patches
    assert np.allclose([one.width, one.height, two.width, two.height], [6, 2, 12, 4])
    assert np.isclose(np.tan(np.radians(one.angle)), 0.75)
    plt.close(figure)
