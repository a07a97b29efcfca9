"""How every command starts; Hydra lives here."""
