"""A trained network to ask."""

import pytest

from emastudy.engine import RunConfig, train
from emastudy.study.measures import Subject


@pytest.fixture
def unit_run():
    return RunConfig(
        head_options={"channels": 8, "num_bases": 4, "num_iterations": 2},
        batch_size=2,
        iterations=2,
        eval_images=4,
        crop_size=32,
    )


@pytest.fixture
def subject(unit_run, runtime):
    network = train(unit_run, runtime).network.eval()
    network.set_output_stride(unit_run.eval_output_stride)
    return Subject(network, unit_run, runtime)


@pytest.fixture
def sees(subject):
    """The same subject, but its unit is given what the test says, image by image."""

    def make(inputs):
        class Blind(Subject):
            def inputs(self, images):
                return iter(inputs[:images])

        return Blind(subject.network, subject.config, subject.runtime)

    return make
