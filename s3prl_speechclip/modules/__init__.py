"""Building blocks: pure functions and small modules, none of which knows a model."""
