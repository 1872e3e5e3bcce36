"""One YAML per downstream task; a package so that installed copies are found."""
