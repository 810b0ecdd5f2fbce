"""The description of the machine: enough to compare figures, nothing that names it."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path

import torch

import docstill
from docstill.deploy.hardware import hardware


def test_says_what_figures_depend_on() -> None:
    found = hardware()
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["threads"] == torch.get_num_threads()
    assert (found["torch"], found["docstill"]) == (torch.__version__, docstill.__version__)
    assert found["gpu"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else None)
    assert json.loads(json.dumps(found)) == found


def test_names_neither_machine_nor_person_nor_path() -> None:
    values = [str(value) for value in hardware().values()]
    assert platform.node() not in values
    assert not [value for value in values if str(Path.home()) in value or value == getpass.getuser()]
