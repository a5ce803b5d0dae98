"""Writing files whole, and reading archives, JSON and YAML of unknown origin."""
