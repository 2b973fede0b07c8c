"""The checkpoint that ships with the package, and the scripts that made it."""

from pathlib import Path

PRO_MOE = Path(__file__).parent / "pro_moe"
