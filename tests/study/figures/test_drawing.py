"""What the pictures draw is what the arrays say."""

import matplotlib.pyplot as plt
import numpy as np

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
