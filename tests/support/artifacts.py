"""The demo's artifacts with another pipeline.json."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from pipeline.config.avatar import PipelineConfig

DEMO = Path(__file__).parents[2] / "artifacts" / "demo"


def demo_with(folder: Path, **pipeline: Any) -> Path:
    """A copy of the demo in `folder`, these values of its PipelineConfig changed."""
    shutil.copytree(DEMO, folder)
    config = PipelineConfig.load(DEMO / "pipeline.json")
    dataclasses.replace(config, **pipeline).save(folder / "pipeline.json")
    return folder
