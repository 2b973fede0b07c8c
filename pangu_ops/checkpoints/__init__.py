"""The checkpoints that ship with the package, and the scripts that made them."""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"
PRO_MOE = Path(__file__).parent / "pro_moe"
DRAFT = Path(__file__).parent / "draft"  # a small Pangu Embedded that drafts for PRO_MOE
