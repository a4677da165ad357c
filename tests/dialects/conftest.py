"""The vendors' own schemas, as llm-comply bundles them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import llm_comply
import pytest
from llm_comply.schema import _patch_nullable

SPECS = Path(llm_comply.__file__).parent / "specs"
Misfits = Callable[[str, str, Any], list[str]]


@functools.cache
def components(spec: str) -> dict[str, Any]:
    loaded = json.loads((SPECS / f"{spec}.json").read_text())
    patched: dict[str, Any] = _patch_nullable(loaded["components"])
    return patched


@pytest.fixture
def misfits() -> Misfits:
    """What of some data does not fit a schema of a spec; an empty list where all does."""

    def found(spec: str, schema: str, data: Any) -> list[str]:
        known = components(spec)
        assert schema in known["schemas"]
        whole = {"$ref": f"#/components/schemas/{schema}", "components": known}
        faults = jsonschema.Draft202012Validator(whole).iter_errors(data)
        return [f"{'.'.join(map(str, fault.absolute_path))}: {fault.message}" for fault in faults]

    return found
