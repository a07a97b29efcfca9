"""How every command starts; Hydra lives here."""

from pathlib import Path

CONF = Path(__file__).parents[1] / "conf"  # the groups that a config is composed from
