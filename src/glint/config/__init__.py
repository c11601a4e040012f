"""Settings: the schema, and the way from a YAML recipe to a checked configuration."""

from glint.config.load import dump_config, load_config, packaged_recipes
from glint.config.schema import GlintConfig

__all__ = ["GlintConfig", "dump_config", "load_config", "packaged_recipes"]
