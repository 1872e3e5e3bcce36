"""What s3prl's `ctc` task needs and its wheel lacks; found there through `compat`."""
