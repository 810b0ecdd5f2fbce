"""What everything that is read from a recipe or a study has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """No key that is not known; never changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
