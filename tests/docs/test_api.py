"""Every public name is in the reference, where its docstring is shown."""

import importlib
import re

import pytest
from tests.docs.markdown import ROOT

DESCRIBED = {
    "milvaion_trio": "api.md",
    "milvaion_trio.embed": "api.md",
    "milvaion_trio.testing": "api-testing.md",
    "milvaion_trio.model.events": "api-values.md",
}
"""Public modules, and their pages."""


@pytest.mark.parametrize("module", DESCRIBED)
def test_every_public_name_is_described(module: str) -> None:
    """Whatever `__all__` names, and nothing that is not there any more."""
    page = (ROOT / "docs" / "reference" / DESCRIBED[module]).read_text(encoding="utf-8")

    described = re.findall(rf"^\.\. auto\w+:: {re.escape(module)}\.(\w+)(?:\(\))?$", page, re.MULTILINE)
    assert sorted(described) == sorted(importlib.import_module(module).__all__)


def test_names_are_described_in_the_order_of_the_package() -> None:
    """It is the order in which they are met: workers, jobs, clients, settings, errors."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")

    described = re.findall(r"^\.\. auto\w+:: milvaion_trio\.(\w+)(?:\(\))?$", page, re.MULTILINE)
    assert described == list(importlib.import_module("milvaion_trio").__all__)
