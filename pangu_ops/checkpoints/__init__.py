"""The checkpoints that ship with the package, and the scripts that made them."""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"
PRO_MOE = Path(__file__).parent / "pro_moe"
