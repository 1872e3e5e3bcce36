"""s3prl's downstream tasks on any of its upstreams: compatibility, runner, feature cache."""
