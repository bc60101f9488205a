"""What runs measured, written and read back."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from gradsift.components.shared.records.run_answers import HeldOutAnswers, ValidationAnswers


def test_validation_answers_are_read_back_with_the_seconds_of_the_run(tmp_path: Path) -> None:
    written = ValidationAnswers(np.array([0.25, 1.5], np.float32), np.array([True, False]))
    written.write(tmp_path, 12.5)
    read, seconds = ValidationAnswers.read(tmp_path)
    assert np.array_equal(read.loss, written.loss)
    assert np.array_equal(read.right, written.right)
    assert seconds == 12.5


def test_answers_by_labels_and_in_writing_are_read_back(tmp_path: Path) -> None:
    scores = np.array([[-0.5, -1.0], [-2.0, -0.1]], np.float32)
    by_labels = HeldOutAnswers(labels=scores, label_losses=-scores)
    in_writing = HeldOutAnswers(
        losses=scores[0], token_accuracy=scores[1], written=["seven", "\N{SNOWMAN} 8"]
    )
    for written in (by_labels, in_writing):
        written.write(tmp_path)
        read = HeldOutAnswers.read(tmp_path)
        assert read.written == written.written
        for name, array in asdict(written).items():
            if name != "written":
                assert (getattr(read, name) is None) == (array is None), name
                assert array is None or np.array_equal(getattr(read, name), array), name
